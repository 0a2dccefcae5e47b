"""A short run of the fuzz targets that are plain computation, the inputs that once broke a promise, and the engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.fuzz.engine import Answer, Broken, Check, Fuzzer, Target, checked, samples
from tests.fuzz.mutations import BYTES
from tests.fuzz.targets import TARGETS

# Inputs and seeds of a short run; each target takes under a second on an idle machine.
_SHORT = {
    "headers": (1500, 24),
    "events": (600, 4),
    "avro": (1500, 1),
    "policy": (40, 2),
    "manifest": (40, 2),
    "protocol": (800, 1),
}
_SAVED = [(name, path) for name in _SHORT for path in samples(name)]


@pytest.mark.parametrize("name", sorted(_SHORT))
def test_a_short_run_breaks_no_promise(name: str, tmp_path: Path) -> None:
    inputs, every = _SHORT[name]
    report = Fuzzer(TARGETS[name], 1, tmp_path).run(inputs, 60.0, every)
    assert report.findings == []
    assert report.inputs >= min(inputs, 20) and report.signatures > 5, "the inputs lead somewhere"


@pytest.mark.parametrize(("name", "path"), _SAVED, ids=lambda value: getattr(value, "name", value))
def test_an_input_that_broke_a_promise_breaks_none(name: str, path: Path) -> None:
    target = TARGETS[name]
    with target.open() as check:
        assert checked(check, target, path.read_bytes())[1] == ""


def _fragile(content: bytes) -> Answer:
    if content[5:6] == b"\xff":
        raise Broken(f"the byte 255 in {len(content)} bytes")
    return Answer(f"{content[:1]!r}")


@contextmanager
def _open() -> Iterator[Check]:
    yield _fragile


_TOY = Target("toy", lambda every: [bytes(range(40))], _open, BYTES, cpu_seconds=1.0)


def test_a_broken_promise_is_found_shortened_saved_and_reported_once(tmp_path: Path) -> None:
    report = Fuzzer(_TOY, 1, tmp_path).run(3000, 60.0)
    assert [finding.problem.partition(" in ")[0] for finding in report.findings] == ["Broken: the byte 255"]
    (saved,) = samples("toy", tmp_path)
    assert len(saved.read_bytes()) == 6 and saved.read_bytes()[5] == 255
    assert checked(_fragile, _TOY, saved.read_bytes())[1].startswith("Broken")


def test_equal_seeds_make_equal_runs(tmp_path: Path) -> None:
    seen: list[list[bytes]] = []
    for seed in (1, 1, 2):
        inputs: list[bytes] = []
        Fuzzer(_TOY, seed, tmp_path, before=inputs.append).run(200, 60.0)
        seen.append(inputs)
    assert seen[0] == seen[1] != seen[2]


def test_an_input_that_takes_too_long_is_a_finding() -> None:
    def slow(_: bytes) -> Answer:
        return Answer(str(sum(range(3_000_000))))

    impatient = Target("toy", lambda every: [], _open, BYTES, cpu_seconds=0.001)
    assert checked(slow, impatient, b"x")[1].startswith("slow")
