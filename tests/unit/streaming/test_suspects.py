"""Suspects: records that were in hand at a crash are handled alone, and given up after the third crash."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from app.errors import DeadLetterCeiling, Fenced, StoreUnavailable, TransactionFailed
from app.ports.records import Claim, Completion, Output, SourceRecord
from app.streaming.lane import MAX_OUTPUT_BYTES
from app.streaming.ports import WireOutput
from app.streaming.suspects import CRASHED_WORKER, CRASHES, NO_MARK, OUTPUT_TOO_LARGE, PARKED, Place, Suspects
from app.systems.registry.avro import Codec
from app.topics import DEAD_LETTERS, PREDICTIONS
from schemas.records import DeadLetter
from tests.support.eventually import eventually
from tests.support.streaming.processors import prediction_of
from tests.unit.streaming.test_lane import BACKFILL, FAST, LIVE, Bench, Script, output


@dataclass(slots=True)
class MemoryMarks:
    """Marks that a test looks at: `held` is what a crash at this moment would leave."""

    held: dict[int, Place] = field(default_factory=dict)
    kept: dict[Place, int] = field(default_factory=dict)
    letters: int = 0
    made: int = 0

    def put(self, place: Place) -> int:
        self.made += 1
        self.held[self.made] = place
        return self.made

    def clear(self, mark: int) -> None:
        self.held.pop(mark, None)

    def clear_all(self, but: int = NO_MARK) -> None:
        self.held = {mark: place for mark, place in self.held.items() if mark == but}

    def note_run(self, letters: int) -> None:
        self.letters = letters

    def save(self, crashes: Mapping[Place, int]) -> None:
        self.kept = dict(crashes)


def live(offset: int) -> Place:
    return Place(LIVE, offset)


def held_offsets(marks: MemoryMarks) -> list[int]:
    return sorted(place.offset for place in marks.held.values())


async def test_what_is_in_hand_is_marked_until_its_transaction_has_committed() -> None:
    marks = MemoryMarks()
    script = Script(held={0: asyncio.Event()})
    bench = Bench(script, suspects=Suspects(marks))
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1, 2)
    await eventually(lambda: script.seen == [0, 1, 2])
    assert held_offsets(marks) == [0, 1, 2], "also what is finished and waits for its turn"
    script.held[0].set()
    await bench.released(LIVE, 3)
    assert marks.held == {}
    await bench.lanes.revoke(1)


async def test_what_a_close_gives_up_is_no_suspect() -> None:
    marks = MemoryMarks()
    script = Script(held={0: asyncio.Event()})
    bench = Bench(script, suspects=Suspects(marks))
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1)
    await eventually(lambda: script.seen == [0, 1])
    await bench.lanes.revoke(0)
    assert marks.held == {}


async def test_a_suspect_is_alone_in_hand_and_everything_else_waits_for_it() -> None:
    marks = MemoryMarks()
    suspects = Suspects(marks, {live(1): 1, Place(BACKFILL, 10): 1})
    held = {0: asyncio.Event(), 1: asyncio.Event(), 10: asyncio.Event()}
    script = Script(held=held)
    bench = Bench(script, suspects=suspects)
    await bench.open(LIVE, BACKFILL)
    feeding = [
        asyncio.create_task(bench.deliver(LIVE, 0, 1, 2)),
        asyncio.create_task(bench.deliver(BACKFILL, 10)),
    ]
    most = 0
    for offset in (0, 1, 10):
        await eventually(partial(script.seen.__contains__, offset))
        most = max(most, len(marks.held))
        assert held_offsets(marks) == [offset]
        held[offset].set()
    await asyncio.gather(*feeding)
    await bench.released(LIVE, 3)
    await bench.released(BACKFILL, 11)
    assert most == 1
    assert (suspects.left, marks.kept) == (0, {})
    await bench.lanes.revoke(1)
    assert bench.failures == []


async def test_records_that_are_no_suspects_are_handled_side_by_side_between_suspects() -> None:
    suspects = Suspects(MemoryMarks(), {live(9): 1})
    script = Script(held={number: asyncio.Event() for number in range(3)})
    bench = Bench(script, suspects=suspects)
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1, 2)
    await eventually(lambda: script.seen == [0, 1, 2])
    for event in script.held.values():
        event.set()
    await bench.deliver(LIVE, 9)
    await bench.released(LIVE, 10)
    await bench.lanes.revoke(1)


async def test_a_record_of_three_crashes_is_a_dead_letter_in_its_turn_and_is_not_handled() -> None:
    marks = MemoryMarks()
    script = Script()
    bench = Bench(script, suspects=Suspects(marks, {live(1): CRASHES, live(2): CRASHES - 1}))
    object.__setattr__(bench.parts, "encode", _encoded)
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1, 2, 3)
    await bench.released(LIVE, 4)
    assert script.seen == [0, 2, 3]
    letters = [out for out in bench.log.outputs if out.topic == DEAD_LETTERS]
    assert bench.log.outputs.index(letters[0]) == 1
    letter = Codec().decode_as(letters[0].value, DeadLetter)
    assert (letter.kind, letter.reason, letter.source.offset) == (CRASHED_WORKER, CRASHED_WORKER, 1)
    assert (letter.value, letter.value_bytes) == (b"", 0)
    assert marks.letters == 0, "the last released record was none"
    await bench.lanes.revoke(1)


async def test_a_letter_takes_the_claim_that_its_processor_knows_but_past_the_third_crash_asks_it_nothing() -> None:
    class Knowing(Script):
        asked = 0

        def given_up(self, record: SourceRecord, kind: str, detail: str) -> Completion:
            self.asked += 1
            return Completion((output(record),), claim=Claim(f"upload-{record.offset}", 1), dead_letters=1)

    script = Knowing()
    bench = Bench(script, suspects=Suspects(MemoryMarks(), {live(0): CRASHES, live(1): CRASHES + 1}))
    object.__setattr__(bench.parts, "encode", _encoded)
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1)
    await bench.released(LIVE, 2)
    assert (script.asked, script.seen) == (1, [])
    assert [row[0] for row in bench.tables.changelog] == ["uploads"]
    await bench.lanes.revoke(1)


async def test_a_parked_record_is_a_dead_letter_and_one_that_was_taken_back_is_handled() -> None:
    suspects = Suspects(MemoryMarks())
    script = Script()
    bench = Bench(script, suspects=suspects)
    object.__setattr__(bench.parts, "encode", _encoded)
    await bench.open(LIVE)
    suspects.park({live(0): "parked by ann", live(1): "parked by ann"})
    await bench.deliver(LIVE, 0)
    suspects.park({live(0): "parked by ann"})
    await bench.deliver(LIVE, 1)
    await bench.released(LIVE, 2)
    assert script.seen == [1]
    letter = Codec().decode_as(bench.log.outputs[0].value, DeadLetter)
    assert (letter.kind, letter.detail) == (PARKED, "parked by ann")
    await bench.lanes.revoke(1)


async def test_an_error_of_the_processor_accuses_its_record_alone() -> None:
    def answer(record: SourceRecord) -> Completion:
        if record.offset == 1:
            raise ZeroDivisionError
        return Completion((output(record),))

    marks = MemoryMarks()
    suspects = Suspects(marks)
    bench = Bench(Script(answer=answer), replace(FAST, release_interval_ms=30_000), suspects=suspects)
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1, 2)
    await eventually(lambda: bool(bench.failures))
    suspects.ended_by(bench.failures[0])
    assert held_offsets(marks) == [1]
    await bench.lanes.revoke(0)


async def test_an_error_of_a_release_leaves_everything_in_hand_suspected() -> None:
    marks = MemoryMarks()
    suspects = Suspects(marks)
    bench = Bench(Script(answer=lambda _: Completion(claim=Claim("", 0))), suspects=suspects)
    object.__setattr__(bench.parts, "tables", None)
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1)
    await eventually(lambda: bool(bench.failures))
    suspects.ended_by(bench.failures[0])
    assert isinstance(bench.failures[0], ValueError)
    assert held_offsets(marks) == [0, 1]
    await bench.lanes.revoke(0)


async def test_a_fence_accuses_nobody() -> None:
    marks = MemoryMarks()
    suspects = Suspects(marks)
    bench = Bench(Script(), suspects=suspects)
    await bench.open(LIVE)
    await bench.log.create(LIVE).start()
    await bench.deliver(LIVE, 0, 1)
    await eventually(lambda: bool(bench.failures))
    assert isinstance(bench.failures[0], Fenced)
    suspects.ended_by(bench.failures[0])
    assert marks.held == {}


@pytest.mark.parametrize(
    ("error", "left"),
    [
        (TransactionFailed("the broker went away"), 0),
        (StoreUnavailable("the store went away"), 0),
        (DeadLetterCeiling("too many"), 0),
        (OSError("a connection of the framework"), 0),
        (MemoryError(), 2),
    ],
)
def test_only_what_a_record_can_cause_is_counted(error: BaseException, left: int) -> None:
    marks = MemoryMarks()
    suspects = Suspects(marks)
    suspects.begin(LIVE, 0)
    suspects.begin(LIVE, 1)
    suspects.ended_by(error)
    assert len(marks.held) == left


def test_suspects_before_the_committed_offset_are_forgotten_and_those_of_other_partitions_are_not() -> None:
    marks = MemoryMarks()
    suspects = Suspects(marks, {live(3): 2, live(5): 1, Place(BACKFILL, 1): 1})
    suspects.opened(LIVE, 4)
    assert marks.kept == {live(5): 1, Place(BACKFILL, 1): 1}
    assert suspects.named() == ["image.backfill.v1/0@1 (1)", "image.tasks.v1/0@5 (1)"]


async def test_a_suspect_that_is_not_due_holds_up_nobody_and_is_no_suspect_meanwhile() -> None:
    marks = MemoryMarks()
    due = asyncio.Event()
    script = Script()

    async def process(record: SourceRecord) -> Completion:
        script.seen.append(record.offset)
        if record.offset == 0:
            script.status.waiting("not-due")
            await due.wait()
        return Completion()

    bench = Bench(script, suspects=Suspects(marks, {live(0): 1, live(1): 1}))
    object.__setattr__(bench.parts, "processor", _Calling(process))
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1, 2)
    await eventually(lambda: script.seen == [0, 1, 2])
    await eventually(lambda: marks.held == {}, message="nor is what is finished behind it")
    due.set()
    await bench.released(LIVE, 3)
    await bench.lanes.revoke(1)


async def test_the_run_of_dead_letters_is_kept_for_the_next_process() -> None:
    marks = MemoryMarks()
    suspects = Suspects(marks)
    bench = Bench(Script(answer=lambda _: Completion(dead_letters=1)), suspects=suspects)
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1, 2)
    await bench.released(LIVE, 3)
    assert marks.letters == 3
    suspects.ended_by(DeadLetterCeiling("somebody looks"))
    assert marks.letters == 0
    await bench.lanes.revoke(1)


async def test_an_output_that_no_broker_takes_is_a_dead_letter_and_ends_nothing() -> None:
    def answer(record: SourceRecord) -> Completion:
        made = prediction_of(record, "x" * (MAX_OUTPUT_BYTES if record.offset == 1 else 1))
        return Completion((Output(PREDICTIONS, b"key", made),))

    bench = Bench(Script(answer=answer))
    object.__setattr__(bench.parts, "encode", _encoded)
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1, 2)
    await bench.released(LIVE, 3)
    assert [out.topic for out in bench.log.outputs] == [PREDICTIONS, DEAD_LETTERS, PREDICTIONS]
    assert Codec().decode_as(bench.log.outputs[1].value, DeadLetter).reason == OUTPUT_TOO_LARGE
    await bench.lanes.revoke(1)
    assert bench.failures == []


class _Calling:
    def __init__(self, process: object) -> None:
        self.process = process


def _encoded(out: Output) -> WireOutput:
    return WireOutput(out.topic, out.key, Codec().encode(out.record))
