"""Plans of compaction, for every shape of a day."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from app.domain.compaction import GROUP_TARGETS, Candidate, Group, plan

TARGET = 1_000
_DAY = st.lists(
    st.builds(Candidate, st.uuids().map(str), st.integers(0, 3 * TARGET), st.integers(0, 50)),
    max_size=60,
    unique_by=lambda file: file.path,
)


@given(_DAY)
def test_each_group_becomes_fewer_files_and_none_is_too_large(files: list[Candidate]) -> None:
    sizes = {file.path: file.size_bytes for file in files}
    groups = plan(files, TARGET)
    named = [path for group in groups for path in group.paths]
    assert len(named) == len(set(named))
    assert set(named) <= set(sizes)
    for group in groups:
        total = sum(sizes[path] for path in group.paths)
        assert 1 <= group.outputs < len(group.paths)
        assert total <= GROUP_TARGETS * TARGET
        assert group.outputs == max(1, math.ceil(total / TARGET))


@given(_DAY)
def test_repeated_runs_end_and_leave_about_one_file_for_each_target(files: list[Candidate]) -> None:
    runs = 0
    while groups := plan(files, TARGET):
        runs += 1
        assert runs < 20
        files = _after(files, groups)
    small = sum(file.size_bytes for file in files if file.size_bytes < 0.75 * TARGET)
    full = sum(file.size_bytes >= 0.75 * TARGET for file in files)
    # What is left small could not be joined into fewer.
    assert len(files) - full <= math.ceil(small / TARGET) + math.ceil(small / (3 * TARGET)) + 1


def test_neighbours_in_order_are_joined() -> None:
    files = [Candidate(str(order), 700, order) for order in (5, 1, 4, 2, 3, 6, 8, 7)]
    assert plan(files, TARGET) == (Group(("1", "2", "3", "4", "5"), 4),)
    assert plan(files[:1], TARGET) == ()
    assert plan([Candidate("full", 800, 0), Candidate("small", 10, 1)], TARGET) == ()


def _after(files: list[Candidate], groups: tuple[Group, ...]) -> list[Candidate]:
    joined = {path for group in groups for path in group.paths}
    left = [file for file in files if file.path not in joined]
    for number, group in enumerate(groups):
        of_group = [file for file in files if file.path in group.paths]
        each = sum(file.size_bytes for file in of_group) // group.outputs
        order = min(file.order for file in of_group)
        left += [Candidate(f"{order}-{number}-{part}-{len(files)}", each, order) for part in range(group.outputs)]
    return left
