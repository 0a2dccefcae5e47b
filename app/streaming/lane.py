"""Lane: one input partition in one generation. Records are handled concurrently and released in source order.

Release of the completed records at the head, in this order:
1. the ceiling counts dead letters; 2. claims are decided and their changelog records awaited; 3. one transaction sends
all outputs and the source offset; 4. the tables are written and the credits returned.
A crash between any two steps loses nothing and publishes nothing twice (docs/semantics.md).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from app.domain.claims import decide, row_key
from app.ports.clock import Clock
from app.ports.processing import Processor
from app.ports.records import Completion, Output, SourceRecord
from app.settings import LaneSettings
from app.streaming.ceiling import Ceiling
from app.streaming.meters import LaneMeters
from app.streaming.ports import LaneProducer, OnFailure, Opened, SourcePartition, TableStore, WireOutput
from app.streaming.status import AWAY, LaneState, RecordStatus, speak_for
from app.streaming.suspects import OUTPUT_TOO_LARGE, GivenUp, InHand, Suspects
from app.topics import CLAIMS_TABLE

_DRAIN_POLL_SECONDS: Final = 0.02
# A broker's default limit is 1,048,588 bytes for a message. Dead letters, the largest records, have at most 960,000.
MAX_OUTPUT_BYTES: Final = 1_000_000


@dataclass(slots=True, eq=False)
class _Slot:
    """One record in hand, in source order."""

    record: SourceRecord
    give_credit: Callable[[], None]
    in_hand: InHand
    status: RecordStatus
    completion: Completion | None = None
    outputs: Sequence[WireOutput] = ()


@dataclass(frozen=True, slots=True)
class LaneParts:
    """Dependencies that all lanes of one worker share."""

    processor: Processor
    encode: Callable[[Output], WireOutput]
    tables: TableStore | None
    ceiling: Ceiling
    settings: LaneSettings
    clock: Clock
    meters: LaneMeters
    on_failure: OnFailure
    # Called with the offset at which delivery of a partition begins, before its first record.
    opened: Callable[[SourcePartition, int], None] | None = None
    suspects: Suspects = field(default_factory=Suspects)
    # Makes the completion of a record that must not be handled.
    give_up: Callable[[SourceRecord, GivenUp], Completion] | None = None


class Lane:
    """Lane of one opened partition. Not reusable after `close`."""

    def __init__(self, source: SourcePartition, opened: Opened, producer: LaneProducer, parts: LaneParts) -> None:
        self.source = source
        self.epoch = opened.epoch
        self.next_offset = opened.position
        self.released = 0
        self._parts = parts
        self._producer = producer
        self._slots: deque[_Slot] = deque()
        self._done = 0
        self._wake = asyncio.Event()
        self._full = asyncio.Event()
        self._draining = False
        self._releasing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._progress_at = parts.clock.monotonic()
        if parts.opened is not None:
            parts.opened(source, opened.position)
        parts.suspects.opened(source, opened.position)
        self._releaser = asyncio.create_task(self._release_forever(), name=f"release {source}")
        self._releaser.add_done_callback(partial(self._ended, None))

    # --- intake ---

    def offer(self, record: SourceRecord, give_credit: Callable[[], None]) -> None:
        """Start handling a record. Call in source order. The credit is returned after its release or at `close`."""
        if not self._slots:
            self._progress_at = self._parts.clock.monotonic()
        in_hand = self._parts.suspects.begin(self.source, record.offset)
        slot = _Slot(record, give_credit, in_hand, RecordStatus(self._goes_on, lambda: self._rests(slot)))
        self._slots.append(slot)
        task = asyncio.create_task(self._work(slot))
        self._tasks.add(task)
        task.add_done_callback(partial(self._ended, in_hand))

    def _goes_on(self) -> None:
        """Restart the stall timer: a record that waited works again."""
        self._progress_at = self._parts.clock.monotonic()

    def _rests(self, slot: _Slot) -> None:
        slot.in_hand.rests()
        if slot is self._slots[0]:
            self._rest_behind_head()

    def _rest_behind_head(self) -> None:
        """Remove the marks of finished records behind a head that waits long: they must not delay suspects."""
        if self.state is LaneState.NOT_DUE:
            for slot in self._slots:
                if slot.completion is not None:
                    slot.in_hand.rests()

    async def _work(self, slot: _Slot) -> None:
        speak_for(slot.status)
        completion = await self._complete(slot.record)
        slot.outputs = [self._parts.encode(output) for output in completion.outputs]
        if self._parts.give_up is not None and (largest := _largest(slot.outputs)) > MAX_OUTPUT_BYTES:
            # A transaction with this output would fail at every retry.
            detail = f"an output would have {largest} bytes, at most {MAX_OUTPUT_BYTES} can be published"
            completion = self._parts.give_up(slot.record, GivenUp(OUTPUT_TOO_LARGE, detail))
            slot.outputs = [self._parts.encode(output) for output in completion.outputs]
        slot.completion = completion
        slot.status.state = LaneState.WORKING
        self._done += 1
        self._progress_at = self._parts.clock.monotonic()
        if self._done >= self._parts.settings.release_results:
            self._full.set()
        if slot is self._slots[0]:
            self._wake.set()
        elif self.state is LaneState.NOT_DUE:
            slot.in_hand.rests()

    async def _complete(self, record: SourceRecord) -> Completion:
        given_up = self._parts.suspects.given_up(self.source, record.offset)
        if given_up is None or self._parts.give_up is None:
            return await self._parts.processor.process(record)
        return self._parts.give_up(record, given_up)

    def _ended(self, in_hand: InHand | None, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._parts.suspects.failed(error, in_hand)
            self._parts.on_failure(error)

    # --- what the watchdog sees ---

    @property
    def in_hand(self) -> int:
        """Number of records in hand."""
        return len(self._slots)

    @property
    def oldest(self) -> SourceRecord | None:
        """Record at the head, for which all others wait."""
        return self._slots[0].record if self._slots else None

    @property
    def state(self) -> LaneState:
        """State of the lane, which is that of its head."""
        return self._slots[0].status.state if self._slots else LaneState.IDLE

    @property
    def held_up(self) -> bool:
        """Return whether a record in hand waits for a service that is unavailable."""
        return any(slot.status.state in AWAY for slot in self._slots)

    @property
    def still_seconds(self) -> float:
        """Seconds without a finished or released record while records are in hand."""
        return self._parts.clock.monotonic() - self._progress_at if self._slots else 0.0

    # --- release ---

    async def _release_forever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            if not self._head_done():
                continue
            await self._gather()
            run = self._head_run()
            self._releasing = True
            try:
                await self._release(run)
            finally:
                self._releasing = False
            if self._head_done():
                self._wake.set()

    def _head_done(self) -> bool:
        return bool(self._slots) and self._slots[0].completion is not None

    async def _gather(self) -> None:
        """Wait a short time for more results, so that transactions are not unnecessarily small."""
        if self._draining or self._done >= self._parts.settings.release_results or self._slots[0].in_hand.alone:
            return
        self._full.clear()
        interval_seconds = self._parts.settings.release_interval_ms / 1000
        sleep = asyncio.create_task(self._parts.clock.sleep(interval_seconds))
        full = asyncio.create_task(self._full.wait())
        try:
            await asyncio.wait((sleep, full), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleep.cancel()
            full.cancel()

    def _head_run(self) -> list[tuple[_Slot, Completion]]:
        run: list[tuple[_Slot, Completion]] = []
        for slot in self._slots:
            if slot.completion is None or len(run) == self._parts.settings.release_results:
                break
            run.append((slot, slot.completion))
        return run

    async def _release(self, run: list[tuple[_Slot, Completion]]) -> None:
        started = self._parts.clock.monotonic()
        for _, completion in run:
            self._parts.ceiling.add(completion.dead_letters)
        repeats = await self._claim(run)
        outputs = [output for slot, _ in run if id(slot) not in repeats for output in slot.outputs]
        next_offset = run[-1][0].record.offset + 1
        await self._producer.publish(outputs, next_offset)
        for slot, _ in run:
            self._slots.popleft()
            slot.give_credit()
            slot.in_hand.released()
        self._parts.suspects.note_run(self._parts.ceiling.in_a_row)
        self._rest_behind_head()
        self._done -= len(run)
        self.next_offset = next_offset
        self.released += len(run)
        now = self._parts.clock.monotonic()
        self._progress_at = now
        completions = [completion for slot, completion in run if id(slot) not in repeats]
        self._parts.meters.released(self.source, completions, len(outputs), len(repeats), now - started)
        await self._write(completions)

    async def _claim(self, run: list[tuple[_Slot, Completion]]) -> set[int]:
        """Decide the claims of `run` in order and store the new ones durably. Return the slots that are repeats."""
        asking = [(slot, completion.claim) for slot, completion in run if completion.claim is not None]
        if not asking:
            return set()
        tables = self._tables()
        partition = self.source.partition
        repeats: set[int] = set()
        # Both lanes of one partition number share the table: reading and writing a claim must not interleave.
        async with tables.exclusive(CLAIMS_TABLE, partition):
            rows: dict[bytes, bytes] = {}
            for slot, claim in asking:
                key = row_key(claim.upload_id, claim.object_id)
                row = rows.get(key) or tables.get(CLAIMS_TABLE, partition, key)
                decision = decide(row, claim.stored_at(slot.record.position))
                if decision.row is not None:
                    rows[key] = decision.row
                if decision.repeat:
                    repeats.add(id(slot))
            if rows:
                await tables.put(CLAIMS_TABLE, partition, rows)
        return repeats

    async def _write(self, completions: list[Completion]) -> None:
        by_table: dict[str, dict[bytes, bytes]] = {}
        for completion in completions:
            for write in completion.writes:
                by_table.setdefault(write.table, {})[write.key] = write.value
        for table, entries in by_table.items():
            await self._tables().put(table, self.source.partition, entries)

    def _tables(self) -> TableStore:
        if self._parts.tables is None:
            raise ValueError(f"{self.source}: a completion with claims or writes needs an agent with tables")
        return self._parts.tables

    # --- the end ---

    async def drain(self, seconds: float) -> None:
        """Release the records that finish within `seconds`. Records that wait for an outside service are abandoned.

        No record may be offered after this call.
        """
        self._draining = True
        self._full.set()
        deadline = self._parts.clock.monotonic() + seconds
        # Polling, because status changes of processors raise no event.
        while self._worth_waiting() and self._parts.clock.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(_DRAIN_POLL_SECONDS)

    def _worth_waiting(self) -> bool:
        if self._releaser.done():
            return False
        # Wait for a transaction that has begun and for a head that works, not for an outside service.
        return self._releasing or self.state is LaneState.WORKING

    async def close(self) -> None:
        """Cancel the remaining records, return all credits and close the producer. Their offsets will be read again."""
        tasks = [self._releaser, *self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self._slots:
            slot = self._slots.popleft()
            slot.give_credit()
            slot.in_hand.rests()
        await self._producer.close()


def _largest(outputs: Sequence[WireOutput]) -> int:
    """Return the size of the largest record in bytes."""
    return max((len(output.key) + len(output.value) for output in outputs), default=0)
