from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import DeadLetterCeiling, DeliveryGap, Fenced
from app.inference.budget import Budget, Ticket
from app.pipeline.dead_letters import GiveUp
from app.ports.records import Claim, Completion, Output, SourceRecord, TableWrite
from app.settings import LaneSettings
from app.streaming.ceiling import Ceiling
from app.streaming.credits import Credits, LiveGate
from app.streaming.delivery import DeliveryLog
from app.streaming.lane import LaneParts
from app.streaming.lanes import Lanes
from app.streaming.meters import SilentMeters
from app.streaming.ports import Delivered, SourcePartition, WireOutput
from app.streaming.pump import Pump
from app.streaming.status import ContextStatus, LaneState
from app.streaming.suspects import Suspects
from app.systems.clock import SystemClock
from app.topics import PREDICTIONS
from tests.support.eventually import eventually
from tests.support.memory.streams import MemoryLog, MemorySource, MemoryTables
from tests.support.streaming.processors import prediction_of

LIVE = SourcePartition("image.tasks.v1", 0)
BACKFILL = SourcePartition("image.backfill.v1", 0)
FAST = LaneSettings(release_interval_ms=1, drain_seconds=1.0)


@dataclass(slots=True)
class Script:
    """A processor whose records finish when the test says so, or at once."""

    held: dict[int, asyncio.Event] = field(default_factory=dict)
    status: ContextStatus = field(default_factory=ContextStatus)
    seen: list[int] = field(default_factory=list)
    answer: Callable[[SourceRecord], Completion] | None = None

    async def process(self, record: SourceRecord) -> Completion:
        self.seen.append(record.offset)
        if record.offset in self.held:
            self.status.waiting("store")
            await self.held[record.offset].wait()
            self.status.working()
        if self.answer is not None:
            return self.answer(record)
        return Completion((output(record),))


def output(record: SourceRecord) -> Output:
    return Output(PREDICTIONS, str(record.offset).encode(), prediction_of(record, f"{record.offset}"))


def record_at(offset: int, source: SourcePartition = LIVE) -> SourceRecord:
    return SourceRecord(source.topic, source.partition, offset, 0, None, b"")


def encode(out: Output) -> WireOutput:
    return WireOutput(out.topic, out.key, out.key)


class Bench:
    """Lanes on the memory log, with pumps for both topics."""

    def __init__(
        self, processor: Script, lane: LaneSettings = FAST, credits: int = 100, suspects: Suspects | None = None
    ) -> None:
        self.log = MemoryLog()
        self.tables = MemoryTables(("uploads", "contents"), (0,))
        self.source = MemorySource(self.log)
        self.failures: list[BaseException] = []
        parts = LaneParts(
            processor=processor,
            encode=encode,
            tables=self.tables,
            ceiling=Ceiling(lane.dead_letter_ratio, lane.dead_letter_run),
            settings=lane,
            clock=SystemClock(),
            meters=SilentMeters(),
            on_failure=self.failures.append,
            suspects=suspects if suspects is not None else Suspects(),
            give_up=GiveUp("test", processor, SystemClock()),
        )
        self.parts = parts
        self.lanes = Lanes(parts, self.log, self.source)
        self.deliveries = DeliveryLog()
        self.pool = Credits(credits)
        self.pumps = {
            LIVE: Pump(self.lanes, self.pool, self.deliveries),
            BACKFILL: Pump(self.lanes, Credits(credits), self.deliveries, LiveGate(self.pool)),
        }

    async def open(self, *sources: SourcePartition) -> None:
        self.lanes.assign(sources)
        self.lanes.ready()
        await eventually(lambda: all(self.lanes.lane(source) for source in sources))
        for source in sources:
            self.deliveries.opened(source, self.source.delivering[source].epoch)

    async def deliver(self, source: SourcePartition, *offsets: int) -> None:
        epoch = self.source.delivering[source].epoch
        for offset in offsets:
            self.deliveries.handed(source, epoch, offset)
            await self.pumps[source].put(Delivered(source, record_at(offset, source), epoch))

    async def released(self, source: SourcePartition, next_offset: int) -> None:
        await eventually(lambda: self.log.offsets.get(source) == next_offset, message=f"offset {next_offset}")

    def keys(self) -> list[int]:
        return [int(out.key) for out in self.log.outputs]


async def test_results_leave_in_source_order_whatever_finishes_first() -> None:
    script = Script(held={0: asyncio.Event()})
    bench = Bench(script)
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1, 2)
    await eventually(lambda: script.seen == [0, 1, 2])
    assert bench.log.outputs == []
    script.held[0].set()
    await bench.released(LIVE, 3)
    assert bench.keys() == [0, 1, 2]
    await bench.lanes.revoke(1)
    assert bench.failures == []
    assert bench.pool.taken == 0


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=40), st.integers(1, 7))
def test_any_completion_order_gives_each_offset_once_in_order(naps: list[int], largest: int) -> None:
    async def run() -> None:
        script = Script()

        async def process(record: SourceRecord) -> Completion:
            for _ in range(naps[record.offset]):
                await asyncio.sleep(0)
            return Completion((output(record),))

        bench = Bench(script, replace(FAST, release_results=largest, release_interval_ms=0))
        object.__setattr__(bench.parts, "processor", _Calling(process))
        await bench.open(LIVE)
        await bench.deliver(LIVE, *range(len(naps)))
        await bench.released(LIVE, len(naps))
        assert bench.keys() == list(range(len(naps)))
        assert all(len(outputs) <= largest for _, outputs, _ in bench.log.transactions)
        offsets = [offset for _, _, offset in bench.log.transactions]
        assert offsets == sorted(set(offsets))
        await bench.lanes.revoke(1)
        assert bench.failures == []

    asyncio.run(run())


class _Calling:
    def __init__(self, process: Callable[[SourceRecord], object]) -> None:
        self.process = process


class _HandClock(SystemClock):
    """The system's clock, moved forward by hand."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


async def test_what_waited_for_long_and_goes_on_has_not_stood_still_meanwhile() -> None:
    script, clock = Script(held={0: asyncio.Event()}), _HandClock()
    going_on = asyncio.Event()

    async def process(record: SourceRecord) -> Completion:
        script.status.waiting("file")
        await script.held[0].wait()
        script.status.working()
        await going_on.wait()
        return Completion()

    bench = Bench(script)
    object.__setattr__(bench.parts, "processor", _Calling(process))
    object.__setattr__(bench.parts, "clock", clock)
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0)
    lane = bench.lanes.open_lanes()[LIVE]
    await eventually(lambda: lane.state is LaneState.FILLING)
    clock.ahead = 600.0
    assert lane.still_seconds > 599
    script.held[0].set()
    await eventually(lambda: lane.state is LaneState.WORKING)
    assert lane.still_seconds < 60
    clock.ahead = 900.0
    assert lane.still_seconds > 299
    going_on.set()
    await bench.released(LIVE, 1)
    await bench.lanes.revoke(1)


async def test_who_follows_partitions_is_told_where_each_begins_before_its_first_record() -> None:
    told: list[tuple[SourcePartition, int]] = []
    script = Script()
    bench = Bench(script)
    object.__setattr__(bench.parts, "opened", lambda source, position: told.append((source, position)))
    await bench.open(LIVE, BACKFILL)
    assert sorted(told) == [(BACKFILL, 0), (LIVE, 0)] and script.seen == []
    await bench.deliver(LIVE, 0, 1, 4)
    await bench.released(LIVE, 5)
    await bench.lanes.revoke(1)
    await bench.open(LIVE)
    assert told[-1] == (LIVE, 5)
    await bench.lanes.revoke(1)


async def test_offsets_with_holes_are_committed_as_the_next_to_read() -> None:
    bench = Bench(Script())
    await bench.open(LIVE)
    await bench.deliver(LIVE, 3, 7, 12)
    await bench.released(LIVE, 13)
    await bench.lanes.revoke(1)


async def test_an_empty_completion_moves_the_offset_alone() -> None:
    bench = Bench(Script(answer=lambda _: Completion()))
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0)
    await bench.released(LIVE, 1)
    assert bench.log.outputs == []
    await bench.lanes.revoke(1)


def claiming(upload_id: str, attempt: int = 0) -> Callable[[SourceRecord], Completion]:
    def answer(record: SourceRecord) -> Completion:
        return Completion(
            (output(record),), claim=Claim(upload_id, attempt), writes=(TableWrite("contents", b"c", b"scores"),)
        )

    return answer


async def test_a_repeat_in_one_batch_and_in_the_other_lane_publishes_nothing() -> None:
    bench = Bench(Script(answer=claiming("one")))
    await bench.open(LIVE, BACKFILL)
    await bench.deliver(LIVE, 0, 1)
    await bench.deliver(BACKFILL, 0)
    await bench.released(LIVE, 2)
    await bench.released(BACKFILL, 1)
    assert len(bench.log.outputs) == 1
    assert [row[0] for row in bench.tables.changelog].count("uploads") == 1
    await bench.lanes.revoke(1)


async def test_a_higher_attempt_takes_the_claim_over() -> None:
    script = Script(answer=claiming("one"))
    bench = Bench(script)
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0)
    await bench.released(LIVE, 1)
    script.answer = claiming("one", attempt=1)
    await bench.deliver(LIVE, 1, 2)
    await bench.released(LIVE, 3)
    assert bench.keys() == [0, 1]
    await bench.lanes.revoke(1)


async def test_claims_are_durable_before_the_commit_and_writes_come_after_it() -> None:
    bench = Bench(Script(answer=claiming("one")))
    bench.log.gate = asyncio.Event()
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0)
    await eventually(lambda: [row[0] for row in bench.tables.changelog] == ["uploads"])
    assert bench.log.outputs == []
    bench.log.gate.set()
    await eventually(lambda: [row[0] for row in bench.tables.changelog] == ["uploads", "contents"])
    assert len(bench.log.outputs) == 1
    await bench.lanes.revoke(1)


async def test_read_again_after_a_crash_between_claim_and_commit_goes_on_by_its_own_claim() -> None:
    bench = Bench(Script(answer=claiming("one")))
    bench.log.gate = asyncio.Event()
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0)
    await eventually(lambda: bool(bench.tables.changelog))
    await bench.lanes.revoke(0.05)
    assert bench.log.outputs == []
    bench.log.gate = None
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1)
    await bench.released(LIVE, 2)
    assert bench.keys() == [0]
    await bench.lanes.revoke(1)


async def test_a_foreign_owner_ends_the_worker() -> None:
    bench = Bench(Script())
    await bench.open(LIVE)
    await bench.log.create(LIVE).start()
    await bench.deliver(LIVE, 0)
    await eventually(lambda: bool(bench.failures))
    assert isinstance(bench.failures[0], Fenced)
    assert bench.log.outputs == []


async def test_an_unexpected_error_ends_the_worker_and_commits_nothing_behind_it() -> None:
    def answer(record: SourceRecord) -> Completion:
        if record.offset == 1:
            raise ZeroDivisionError
        return Completion((output(record),))

    bench = Bench(Script(answer=answer))
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1, 2)
    await bench.released(LIVE, 1)
    await eventually(lambda: bool(bench.failures))
    assert isinstance(bench.failures[0], ZeroDivisionError)
    assert bench.keys() == [0]


async def test_a_run_of_dead_letters_stops_before_the_batch_is_committed() -> None:
    bench = Bench(Script(answer=lambda _: Completion(dead_letters=1)), replace(FAST, dead_letter_run=5))
    await bench.open(LIVE)
    await bench.deliver(LIVE, *range(20))
    await eventually(lambda: bool(bench.failures))
    assert isinstance(bench.failures[0], DeadLetterCeiling)
    assert bench.log.offsets.get(LIVE, 0) <= 5


async def test_a_drain_finishes_what_works_and_gives_up_what_waits() -> None:
    script = Script(held={2: asyncio.Event()})
    bench = Bench(script, replace(FAST, release_interval_ms=30_000))
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1, 2, 3)
    await eventually(lambda: len(script.seen) == 4)
    await bench.lanes.revoke(30)
    assert bench.keys() == [0, 1]
    assert bench.log.offsets[LIVE] == 2
    assert bench.pool.taken == 0
    assert all(owner.closed for owner in bench.log.owners.values())


async def test_a_close_while_records_wait_for_each_other_is_no_failure() -> None:
    budget = Budget(1)

    async def process(_: SourceRecord) -> Completion:
        held = await budget.take(1, Ticket())
        try:
            await asyncio.Event().wait()
        finally:
            budget.give(held)
        raise AssertionError("never set")

    bench = Bench(Script(), replace(FAST, drain_seconds=0.0))
    object.__setattr__(bench.parts, "processor", _Calling(process))
    await bench.open(LIVE)
    await bench.deliver(LIVE, *range(30))
    await eventually(lambda: budget.waiting == 29)
    await bench.lanes.revoke(0)
    assert bench.failures == []
    assert (budget.free, budget.waiting, bench.pool.taken) == (1, 0, 0)


async def test_messages_of_an_older_generation_are_dropped_and_cost_no_credit() -> None:
    bench = Bench(Script())
    await bench.open(LIVE)
    old = bench.source.delivering[LIVE].epoch
    await bench.lanes.revoke(1)
    await bench.open(LIVE)
    await bench.pumps[LIVE].put(Delivered(LIVE, record_at(0), old))
    assert bench.pool.taken == 0
    await bench.deliver(LIVE, 0)
    await bench.released(LIVE, 1)
    assert bench.keys() == [0]
    await bench.lanes.revoke(1)


async def test_a_message_that_went_missing_on_its_way_is_a_gap() -> None:
    bench = Bench(Script())
    await bench.open(LIVE)
    epoch = bench.source.delivering[LIVE].epoch
    bench.deliveries.handed(LIVE, epoch, 0)
    bench.deliveries.handed(LIVE, epoch, 1)
    with pytest.raises(DeliveryGap):
        await bench.pumps[LIVE].put(Delivered(LIVE, record_at(1), epoch))


async def test_a_full_engine_holds_the_pump() -> None:
    script = Script(held={0: asyncio.Event()})
    bench = Bench(script, credits=2)
    await bench.open(LIVE)
    await bench.deliver(LIVE, 0, 1)
    third = asyncio.create_task(bench.deliver(LIVE, 2))
    await eventually(lambda: bench.pool.exhausted)
    assert script.seen == [0, 1]
    script.held[0].set()
    await third
    await bench.released(LIVE, 3)
    await bench.lanes.revoke(1)


async def test_backfill_waits_while_live_work_is_in_the_way() -> None:
    held = {number: asyncio.Event() for number in range(3)}
    script = Script(held=held)
    bench = Bench(script, credits=16)
    await bench.open(LIVE, BACKFILL)
    await bench.deliver(LIVE, 0, 1, 2)
    backfill = asyncio.create_task(bench.deliver(BACKFILL, 10))
    gate = bench.pumps[BACKFILL].gate
    assert gate is not None
    await eventually(lambda: gate.yielding)
    assert 10 not in script.seen
    for event in held.values():
        event.set()
    await backfill
    await bench.released(BACKFILL, 11)
    await bench.lanes.revoke(1)


async def test_what_a_record_says_of_itself_is_the_state_of_its_lane() -> None:
    script = Script(held={0: asyncio.Event()})
    bench = Bench(script)
    await bench.open(LIVE)
    lane = bench.lanes.lane(LIVE)
    assert lane is not None
    assert str(lane.state) == "idle"
    await bench.deliver(LIVE, 0, 1)
    await eventually(lambda: lane.state is LaneState.WAITING_FOR_STORE)
    assert lane.held_up
    script.held[0].set()
    await bench.released(LIVE, 2)
    assert lane.state is LaneState.IDLE
    await bench.lanes.revoke(1)


async def test_a_revocation_while_lanes_open_leaves_none() -> None:
    bench = Bench(Script())
    bench.lanes.assign([LIVE])
    bench.lanes.ready()
    await bench.lanes.revoke(1)
    assert bench.lanes.open_lanes() == {}
    bench.lanes.ready()
    await asyncio.sleep(0)
    assert bench.lanes.open_lanes() == {}, "an end of a recovery that comes late opens nothing"
    await bench.open(LIVE)
    await bench.lanes.stop(1)
    bench.lanes.assign([LIVE])
    bench.lanes.ready()
    assert bench.lanes.lane(LIVE) is None
