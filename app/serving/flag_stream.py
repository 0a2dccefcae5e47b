"""Stream of flagged images for many subscribers: one reader of the topic per process, and catching up by id.

An event's id is the next offset of every partition (app/domain/positions.py). A client that reconnects with it gets the
following flags, each once: first from the topic, up to the position of the hub, then from the hub.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Final

from app.domain.positions import NotPositions, decode_positions, encode_positions
from app.errors import BrokerUnavailable, Poison, Refused, StartupRefused
from app.metrics import Meters
from app.ports.records import RecordCodec, SourceRecord
from app.ports.topics import AtOffsets, TopicLog
from app.serving.topic_watch import Following
from app.topics import FLAGGED
from schemas.records import FlaggedImage

logger = logging.getLogger(__name__)
# A flag with its rules is at most some kilobytes, so a stalled subscriber holds some megabytes.
QUEUE: Final = 1_000
# Offsets of one step of catching up, over all partitions; a stalled subscriber holds this many records.
_STEP: Final = 2_000
# Subscribers that read the topic at the same time; each has a consumer with at most 1 MiB per partition.
_CATCHING_UP: Final = 4
_READY_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 1.0


class NotAnEventId(Refused):
    """Id that this stream did not issue.

    Operator: nothing to do; the client must start without an id.
    """


class TooManyStreams(Exception):
    """The maximum number of streams is open. A place becomes free when a subscriber leaves."""


@dataclass(frozen=True, slots=True)
class FlagEvent:
    """One event. Without a flag it only reports the position of the stream. `note` is for people."""

    event_id: str
    flag: FlaggedImage | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Live:
    """Flag that the hub offers to all subscribers; they share its `event_id`."""

    partition: int
    offset: int
    flag: FlaggedImage
    event_id: str
    positions: Mapping[int, int]


class Subscription:
    """Subscription of one client. It counts against the limit until `close`."""

    def __init__(self, hub: FlagHub, actions: frozenset[str], positions: dict[int, int], note: str) -> None:
        self._hub = hub
        self._actions = actions
        self._at = positions
        self._note = note
        self._waiting: deque[_Live] = deque()
        self._wake = asyncio.Event()
        # The hub's positions when this subscription joined it.
        self._joined: dict[int, int] | None = None
        self.ended = ""

    async def events(self, heartbeat_seconds: float) -> AsyncGenerator[FlagEvent, None]:
        """Yield flags, and positions at the start and after each `heartbeat_seconds` without a flag.

        Ends if the hub closes, if this subscriber is too slow, or if the broker fails while it catches up. A client
        that reconnects with its last id loses nothing.
        """
        yield FlagEvent(encode_positions(self._at), None, self._note)
        try:
            async with aclosing(self._caught_up()) as older:
                async for event in older:
                    yield event
        except (BrokerUnavailable, StartupRefused) as error:
            self.end("broker")
            yield FlagEvent(encode_positions(self._at), None, f"ended, come back with this id: {error}")
            return
        while True:
            while not self._waiting and not self._over():
                self._wake.clear()
                try:
                    async with asyncio.timeout(heartbeat_seconds):
                        await self._wake.wait()
                except TimeoutError:
                    # The queue is empty, so the records that the hub has passed were for other subscribers.
                    self._pass(self._hub.positions)
                    yield FlagEvent(encode_positions(self._at), None)
            if self._over():
                return
            live = self._waiting.popleft()
            if live.offset < self._at.get(live.partition, 0):
                continue  # the id was ahead of this hub
            ahead = any(live.positions.get(number, 0) < at for number, at in self._at.items())
            self._pass(live.positions)
            yield FlagEvent(encode_positions(self._at) if ahead else live.event_id, live.flag)

    def join(self, positions: dict[int, int]) -> None:
        """Join the hub: receive everything from its `positions` on."""
        self._joined = positions

    def offer(self, live: _Live) -> None:
        """Queue a new flag. A subscription with a full queue ends. Never blocks."""
        if not self.wants(live.flag) or self.ended:
            return
        if len(self._waiting) >= QUEUE:
            self.end("slow")
            return
        self._waiting.append(live)
        self._wake.set()

    def wants(self, flag: FlaggedImage) -> bool:
        """Return True if the flag has a selected action, or withdraws a flag with one."""
        return not self._actions or flag.action in self._actions or flag.previous_action in self._actions

    def end(self, why: str) -> None:
        """Make `events` end; the first reason is kept."""
        self.ended = self.ended or why
        self._waiting.clear()
        self._wake.set()

    def close(self) -> None:
        """Release the place."""
        self.end("gone")
        self._hub.leave(self)

    def _over(self) -> bool:
        return bool(self.ended)

    def _pass(self, positions: Mapping[int, int]) -> None:
        for partition, at in positions.items():
            if self._at.get(partition, 0) < at:
                self._at[partition] = at

    async def _caught_up(self) -> AsyncGenerator[FlagEvent, None]:
        """Yield the flags between this subscriber's position and the hub's from the topic, then join the hub."""
        while not self._over():
            target = self._hub.positions if self._joined is None else self._joined
            gaps = {number: end - self._at.get(number, 0) for number, end in target.items()}
            left = {number: gap for number, gap in gaps.items() if gap > 0}
            if self._joined is None and sum(left.values()) <= _STEP:
                # No await since the hub's positions were read: later records are offered, earlier ones are read below.
                self._hub.join(self)
            if not left:
                return
            share = max(1, _STEP // len(left))
            ends = {number: self._at.get(number, 0) + min(gap, share) for number, gap in left.items()}
            for record in await self._hub.read(dict(self._at), ends):
                if self._over():
                    return
                flag = self._hub.decoded(record)
                self._at[record.partition] = record.offset + 1
                if flag is not None and self.wants(flag):
                    yield FlagEvent(encode_positions(self._at), flag)
            # Offsets without a record (markers of transactions) advance the position too. With rare actions they
            # are most of the offsets.
            self._pass(ends)
            yield FlagEvent(encode_positions(self._at), None)


class FlagHub:
    """Follower of the flagged topic, with all subscriptions of this process."""

    def __init__(self, following: Following, log: TopicLog, codec: RecordCodec, meters: Meters, *, most: int) -> None:
        self._following = following
        self._log = log
        self._codec = codec
        self._meters = meters
        self._most = most
        self._all: set[Subscription] = set()
        self._joined: list[Subscription] = []
        self._reading = asyncio.Semaphore(_CATCHING_UP)
        self._ready = asyncio.Event()
        self._closed = False
        # Advanced with each record; no await between that and the offer of the record.
        self.positions: dict[int, int] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the topic while the context is open. An unexpected error ends its body."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._run())
            try:
                yield
            finally:
                self.close()
                task.cancel()

    def close(self) -> None:
        """End all subscriptions and accept no more. Their clients reconnect, perhaps to another process."""
        self._closed = True
        for subscription in tuple(self._all):
            subscription.end("closing")

    async def subscribe(self, actions: frozenset[str], last_event_id: str | None) -> Subscription:
        """Return a subscription to `actions` (empty: all), from the id on, or from now on without an id.

        Raises NotAnEventId, TooManyStreams, BrokerUnavailable.
        """
        wanted = None if last_event_id is None else _decoded_id(last_event_id)
        if len(self._all) >= self._most:
            raise TooManyStreams
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_SECONDS):
                await self._ready.wait()
        if not self._ready.is_set() or self._closed:
            raise BrokerUnavailable(self._following.away or "the service ends")
        note = "" if wanted is None else await self._checked(wanted)
        if len(self._all) >= self._most:
            raise TooManyStreams
        subscription = Subscription(self, actions, dict(self.positions) if wanted is None else wanted, note)
        self._all.add(subscription)
        if wanted is None:
            self.join(subscription)
        self._meters.gauge("sightline_stream_subscribers", len(self._all))
        return subscription

    def join(self, subscription: Subscription) -> None:
        """Offer all later flags to `subscription`."""
        subscription.join(dict(self.positions))
        self._joined.append(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Remove `subscription`. Idempotent."""
        if subscription not in self._all:
            return
        self._all.discard(subscription)
        if subscription in self._joined:
            self._joined.remove(subscription)
        self._meters.gauge("sightline_stream_subscribers", len(self._all))
        self._meters.count("sightline_stream_ended_total", why=subscription.ended)

    async def read(self, start: Mapping[int, int], end: Mapping[int, int]) -> list[SourceRecord]:
        """Return the records between the two. Raises BrokerUnavailable, StartupRefused."""
        async with self._reading, aclosing(self._log.scan(FLAGGED, AtOffsets(start), AtOffsets(end))) as records:
            # A partition without an entry in `end` is not read.
            return [record async for record in records if record.offset < end.get(record.partition, 0)]

    def decoded(self, record: SourceRecord) -> FlaggedImage | None:
        """Return the flag of a record; None for a record that is not a flag."""
        try:
            return self._codec.decode_as(record.value, FlaggedImage)
        except Poison:
            return None

    async def _run(self) -> None:
        async with aclosing(self._following.batches(_POLL_SECONDS)) as batches:
            async for batch in batches:
                for record in batch:
                    self._give(record)
                if not batch and not self._following.away:
                    self.positions = {number: at for (_, number), at in self._following.positions.items()}
                    self._ready.set()

    def _give(self, record: SourceRecord) -> None:
        self.positions[record.partition] = record.offset + 1
        flag = self.decoded(record) if self._joined else None
        if flag is None:
            return
        positions = dict(self.positions)
        live = _Live(record.partition, record.offset, flag, encode_positions(positions), positions)
        for subscription in self._joined:
            subscription.offer(live)

    async def _checked(self, wanted: dict[int, int]) -> str:
        """Refuse an id ahead of the topic. For an id older than the topic start at its beginning and return a note."""
        if set(wanted) - set(self.positions):
            raise NotAnEventId("it names partitions that the topic does not have")
        if any(at > self.positions[number] for number, at in wanted.items()):
            ends = await self._log.ends(FLAGGED)
            if any(at > ends.get(number, 0) for number, at in wanted.items()):
                raise NotAnEventId("it is beyond the end of the topic")
        behind = [number for number, at in self.positions.items() if wanted.get(number, 0) < at]
        if not behind:
            return ""
        starts = await self._log.starts(FLAGGED)
        lost = [number for number in behind if number in wanted and wanted[number] < starts.get(number, 0)]
        for number in behind:
            wanted[number] = max(wanted.get(number, 0), starts.get(number, 0))
        return "the topic no longer holds all that followed this id; it goes on at its start" if lost else ""


def _decoded_id(text: str) -> dict[int, int]:
    try:
        return decode_positions(text)
    except NotPositions as error:
        raise NotAnEventId(str(error)) from error
