from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.archive import Chain, Fault, FileRange, faults, folder_of, name_of, place_of, range_of
from app.errors import ArchiveBroken

TOPIC = "image.predictions.v1"


def file(start: int, end: int, *, read_from: int | None = None, records: int = 1) -> FileRange:
    return FileRange(TOPIC, 3, start, start if read_from is None else read_from, end, records)


@dataclass(slots=True)
class Store:
    """A partition's log, with holes, and what is archived of it, by the start of each file."""

    log: list[int]
    files: dict[int, tuple[FileRange, list[int]]] = field(default_factory=dict)

    @property
    def end(self) -> int:
        return self.files[max(self.files)][0].end if self.files else 0


@dataclass(slots=True)
class Writer:
    """One of two rivals, between any two steps of which the other may do anything."""

    store: Store
    chain: Chain = field(init=False)
    read: int = 0
    pending: list[int] = field(default_factory=list)
    sealed: tuple[FileRange, list[int]] | None = None

    def __post_init__(self) -> None:
        self.restart(0)

    def restart(self, position: int) -> None:
        """Begin anew at a committed offset, knowing the archive's end as it is at this moment."""
        self.chain = Chain(self.store.end, position)
        self.read, self.pending, self.sealed = position, [], None

    def read_on(self, count: int) -> None:
        found = [offset for offset in self.store.log if offset >= self.read][:count]
        self.pending += [offset for offset in found if not self.chain.covers(offset)]
        self.read = found[-1] + 1 if found else self.read

    def seal(self, count: int) -> None:
        if self.pending and self.sealed is None:
            chosen = self.pending[:count]
            self.sealed = (self.chain.next_file(TOPIC, 3, chosen), chosen)

    def put(self) -> None:
        if self.sealed is not None:
            start = self.sealed[0].start
            # What a store does that writes an object once.
            stands = self.store.files.setdefault(start, self.sealed)[0]
            self.chain.goes_on_at(stands.end)
            self.pending = [offset for offset in self.pending if not self.chain.covers(offset)]
            self.sealed = None

    def finish(self) -> None:
        self.restart(self.store.end)
        self.read_on(len(self.store.log))
        while self.pending:
            self.seal(7)
            self.put()


logs = st.lists(st.integers(1, 4), max_size=60).map(lambda gaps: [sum(gaps[: n + 1]) - 1 for n in range(len(gaps))])
steps = st.lists(
    st.tuples(st.integers(0, 1), st.sampled_from(("read", "seal", "put", "restart")), st.integers(1, 9)), max_size=80
)


@given(logs, steps, st.data())
@settings(max_examples=300, deadline=None)
def test_any_interleaving_of_two_rivals_archives_every_record_exactly_once(
    log: list[int], told: list[tuple[int, str, int]], data: st.DataObject
) -> None:
    store = Store(log)
    rivals = (Writer(store), Writer(store))
    for who, what, count in told:
        writer = rivals[who]
        match what:
            case "read":
                writer.read_on(count)
            case "seal":
                writer.seal(count)
            case "put":
                writer.put()
            case _:
                # Offsets are committed after their file is stored, in the middle of a file too.
                writer.restart(data.draw(st.integers(0, store.end)))
    for writer in rivals:
        writer.put()
    rivals[0].finish()
    files = [store.files[start] for start in sorted(store.files)]
    assert [offset for _, offsets in files for offset in offsets] == log
    assert list(faults(found for found, _ in files)) == []
    assert all(found.end == offsets[-1] + 1 and found.records == len(offsets) for found, offsets in files)


def test_a_chain_begins_at_zero_and_says_from_where_it_was_read() -> None:
    """Two rivals that find the start of a topic at different offsets must want the same name."""
    assert Chain(0, 500).next_file(TOPIC, 3, [500, 502]) == file(0, 503, read_from=500, records=2)
    assert Chain(0, 520).next_file(TOPIC, 3, [520]).start == 0


def test_records_that_retention_removed_show_as_a_gap_in_the_file_that_follows() -> None:
    chain = Chain(100, 180)
    assert chain.missing == 80
    after = chain.next_file(TOPIC, 3, [181])
    assert after == file(100, 182, read_from=180)
    assert list(faults([file(0, 100), after])) == [Fault("gone", 100, 180)]
    chain.goes_on_at(182)
    assert chain.missing == 0 and chain.next_file(TOPIC, 3, [190]) == file(182, 191)


def test_a_chain_takes_only_what_follows_it_and_only_goes_forward() -> None:
    chain = Chain(100, 50)
    with pytest.raises(ValueError, match="do not follow"):
        chain.next_file(TOPIC, 3, [99, 100])
    with pytest.raises(ValueError, match="goes forward"):
        chain.goes_on_at(100)


def test_holes_and_overlaps_are_told_and_a_late_beginning_is_none() -> None:
    assert list(faults([file(300, 400, read_from=310), file(400, 450)])) == []
    assert list(faults([file(0, 10), file(20, 30), file(25, 40)])) == [Fault("hole", 10, 20), Fault("overlap", 25, 30)]


def test_names_sort_by_their_starts_and_tell_their_place() -> None:
    names = [name_of("archive/", TOPIC, 3, start) for start in (0, 9, 10, 12_345_678_901)]
    assert names == sorted(names)
    assert names[1] == f"archive/topic={TOPIC}/partition=3/00000000000000000009.parquet"
    assert [place_of(name) for name in names[:2]] == [(TOPIC, 3, 0), (TOPIC, 3, 9)]
    assert names[0].startswith(folder_of("archive", TOPIC, 3)) and names[0].startswith(folder_of("archive", TOPIC))
    assert place_of("archive/conditional-put-probe") is None


def test_metadata_tell_the_range_and_must_agree_with_the_name() -> None:
    told = file(7, 120, records=40)
    key = name_of("a", TOPIC, 3, 7)
    assert range_of(told.metadata(), key) == told
    for wrong in (
        {},
        {**told.metadata(), "end": "x"},
        {**told.metadata(), "start": "8"},
        replace(told, end=7).metadata(),
        {**told.metadata(), "partition": "2"},
    ):
        with pytest.raises(ArchiveBroken):
            range_of(wrong, key)
