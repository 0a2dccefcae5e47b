"""The stream of flagged images for many subscribers: one reader of the topic for a process, and catching up by id.

An event's id is the next offset of every partition (app/domain/positions.py). Whoever comes back with it gets what
follows it, each flag once: first from the topic, up to where the hub stands, then from the hub.
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
# A flag with its rules is some kilobytes at most, so a subscriber that stands still holds some megabytes.
QUEUE: Final = 1_000
# Offsets of one step of catching up, over all partitions: what a subscriber that stands still holds in that phase.
_STEP: Final = 2_000
# Subscribers that read the topic at once; each holds a consumer with at most 1 MiB a partition.
_CATCHING_UP: Final = 4
_READY_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 1.0


class NotAnEventId(Refused):
    """An id that this stream has not given out.

    Operator: nothing; the client must begin without an id.
    """


class TooManyStreams(Exception):
    """All places are taken; one becomes free when a subscriber goes."""


@dataclass(frozen=True, slots=True)
class FlagEvent:
    """One event. Without a flag it only tells how far the stream has come; `note` is for people."""

    event_id: str
    flag: FlaggedImage | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Live:
    """A flag as the hub gives it to all subscribers; `event_id` is shared between them."""

    partition: int
    offset: int
    flag: FlaggedImage
    event_id: str
    positions: Mapping[int, int]


class Subscription:
    """One subscriber's way through the stream. `close` it; it then counts no more."""

    def __init__(self, hub: FlagHub, actions: frozenset[str], positions: dict[int, int], note: str) -> None:
        self._hub = hub
        self._actions = actions
        self._at = positions
        self._note = note
        self._waiting: deque[_Live] = deque()
        self._wake = asyncio.Event()
        # The hub's positions when this subscriber was added to those that it gives to.
        self._joined: dict[int, int] | None = None
        self.ended = ""

    async def events(self, heartbeat_seconds: float) -> AsyncGenerator[FlagEvent, None]:
        """Yield the flags and, at the start and whenever nothing came for `heartbeat_seconds`, how far it has come.

        Ends when the hub closes, when this subscriber is too slow and when the broker goes away while it catches up:
        in each case its client loses nothing if it comes back with the last id.
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
                    # Nothing waits, so what the hub has passed was for others.
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
        """Be given everything from the hub's `positions` on."""
        self._joined = positions

    def offer(self, live: _Live) -> None:
        """Take what is new; a subscriber that has no room left ends here. Never blocks."""
        if not self.wants(live.flag) or self.ended:
            return
        if len(self._waiting) >= QUEUE:
            self.end("slow")
            return
        self._waiting.append(live)
        self._wake.set()

    def wants(self, flag: FlaggedImage) -> bool:
        """Whether the flag is of the actions asked for, or takes one of them back."""
        return not self._actions or flag.action in self._actions or flag.previous_action in self._actions

    def end(self, why: str) -> None:
        """Let `events` end; the first reason stays."""
        self.ended = self.ended or why
        self._waiting.clear()
        self._wake.set()

    def close(self) -> None:
        """Give the place back."""
        self.end("gone")
        self._hub.leave(self)

    def _over(self) -> bool:
        return bool(self.ended)

    def _pass(self, positions: Mapping[int, int]) -> None:
        for partition, at in positions.items():
            if self._at.get(partition, 0) < at:
                self._at[partition] = at

    async def _caught_up(self) -> AsyncGenerator[FlagEvent, None]:
        """Yield from the topic what lies between this subscriber and the hub, and join the hub on the way."""
        while not self._over():
            target = self._hub.positions if self._joined is None else self._joined
            gaps = {number: end - self._at.get(number, 0) for number, end in target.items()}
            left = {number: gap for number, gap in gaps.items() if gap > 0}
            if self._joined is None and sum(left.values()) <= _STEP:
                # No await since the hub's positions were read: what comes next is offered, what was is read below.
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
            # Offsets without a record (markers of transactions) are passed too, and told: they are many where
            # only rare actions are asked for.
            self._pass(ends)
            yield FlagEvent(encode_positions(self._at), None)


class FlagHub:
    """One follower of the flagged topic and everybody who wants to hear of it."""

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
        # Moved with each record, without an await between that and its offering.
        self.positions: dict[int, int] = {}

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow the topic meanwhile. An unexpected error there ends the body."""
        async with asyncio.TaskGroup() as tasks:
            task = tasks.create_task(self._run())
            try:
                yield
            finally:
                self.close()
                task.cancel()

    def close(self) -> None:
        """End all subscriptions and take no more: their clients go to another process, or come back."""
        self._closed = True
        for subscription in tuple(self._all):
            subscription.end("closing")

    async def subscribe(self, actions: frozenset[str], last_event_id: str | None) -> Subscription:
        """Return a subscription of `actions` (empty: all), from the id on or else from this moment on.

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
        """Give everything from here on to `subscription`."""
        subscription.join(dict(self.positions))
        self._joined.append(subscription)

    def leave(self, subscription: Subscription) -> None:
        """Forget `subscription`; twice is once."""
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
            # A partition that `end` does not name has no end to read to.
            return [record async for record in records if record.offset < end.get(record.partition, 0)]

    def decoded(self, record: SourceRecord) -> FlaggedImage | None:
        """Return the flag, None for a record that is none of ours."""
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
        """Refuse an id that is ahead of the topic; begin at its start where the id is older, and return that note."""
        if set(wanted) - set(self.positions):
            raise NotAnEventId("it names partitions that the topic does not have")
        if any(at > self.positions[number] for number, at in wanted.items()):
            ends = await self._log.ends(FLAGGED)
            if any(at > ends.get(number, 0) for number, at in wanted.items()):
                raise NotAnEventId("it lies behind the end of the topic")
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
