"""The bridge: bucket notifications from an SQS queue to `s3.uploads` (AWS sends there, never to Kafka).

A message is deleted from the queue only after Kafka acknowledged it. Killed in between, the queue hands it out again
and it arrives twice: a repeat, which score drops at its claims. Both sides may be away for as long as the queue keeps
its messages (up to 14 days on AWS).
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from app.bridge.ports import NotificationQueue, QueueMessage
from app.errors import BrokerUnavailable, QueueUnavailable
from app.metrics import Meters
from app.pipeline.dead_letters import POISON, dead_letter
from app.ports.clock import Clock
from app.ports.publishing import Producer
from app.ports.records import RecordCodec, SourceRecord
from app.topics import DEAD_LETTERS, UPLOADS

AGENT: Final = "bridge"
# A broker takes 1,048,588 bytes a message by default; S3 sends at most 64 KB.
MAX_BODY_BYTES: Final = 1_000_000
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
# Left of the visibility time when a batch that Kafka does not take is let go: the queue will hand it out again.
_VISIBILITY_MARGIN_SECONDS: Final = 5.0
_LAST_POLL_SECONDS: Final = 1.0

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class BridgeState:
    """What /healthz shows. `away` names the sides that did not answer at the last try."""

    bridged: int = 0
    deleted: int = 0
    away: set[str] = field(default_factory=set)

    def shown(self) -> tuple[bool, dict[str, Any]]:
        """Return whether all is well (waiting for a side that is away is the bridge's work, not its fault)."""
        return True, {"bridged": self.bridged, "deleted": self.deleted, "waiting_for": sorted(self.away)}


class Bridge:
    """Runs `receivers` loops over one queue. It never ends by an outage of either side."""

    def __init__(
        self,
        queue: NotificationQueue,
        producer: Producer,
        codec: RecordCodec,
        clock: Clock,
        meters: Meters,
        *,
        receivers: int,
        visibility_seconds: float,
    ) -> None:
        self.state = BridgeState()
        self._queue = queue
        self._producer = producer
        self._codec = codec
        self._clock = clock
        self._meters = meters
        self._receivers = receivers
        self._hold_seconds = max(1.0, visibility_seconds - _VISIBILITY_MARGIN_SECONDS)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End every loop after what it has in hand; a long poll is given a second to return."""
        self._stopping.set()

    async def run(self) -> None:
        """Return after `stop`; everything received by then was acknowledged and deleted, or is handed out again."""
        async with asyncio.TaskGroup() as group:
            for number in range(max(1, self._receivers)):
                group.create_task(self._loop(), name=f"receiver {number}")

    async def _loop(self) -> None:
        pause = _Pause()
        while not self._stopping.is_set():
            try:
                messages = await self._receive()
            except QueueUnavailable as error:
                await self._wait("queue", pause, error)
                continue
            self.state.away.discard("queue")
            pause.reset()
            if messages and await self._publish(messages):
                await self._delete(messages)

    async def _receive(self) -> Sequence[QueueMessage]:
        receiving = asyncio.ensure_future(self._queue.receive())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((receiving, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not receiving.done():
                # What the queue is handing out at this very moment would stay hidden for the visibility time.
                await asyncio.wait((receiving,), timeout=_LAST_POLL_SECONDS)
            return receiving.result() if receiving.done() else ()
        finally:
            receiving.cancel()
            stopping.cancel()

    async def _publish(self, messages: Sequence[QueueMessage]) -> bool:
        """Return whether Kafka has all of `messages`; False: they are let go and come again."""
        records = [self._record(message) for message in messages]
        pause = _Pause()
        until = self._clock.monotonic() + self._hold_seconds
        while True:
            try:
                await self._producer.send_batch(records)
            except BrokerUnavailable as error:
                await self._wait("broker", pause, error)
                if self._stopping.is_set() or self._clock.monotonic() >= until:
                    return False
                continue
            self.state.away.discard("broker")
            self.state.bridged += len(messages)
            self._meters.count("sightline_bridge_messages_total", len(messages))
            return True

    async def _delete(self, messages: Sequence[QueueMessage]) -> None:
        try:
            deleted = await self._queue.delete(messages)
        except QueueUnavailable as error:
            # They come again and are repeats; the next receive waits for the queue.
            logger.warning("%d messages may be delivered again: %s", len(messages), error)
            return
        self.state.deleted += deleted
        self._meters.count("sightline_bridge_deleted_total", deleted)

    async def _wait(self, side: str, pause: _Pause, error: Exception) -> None:
        seconds = pause.next_seconds()
        if side not in self.state.away:
            logger.warning("waiting for the %s: %s", side, error)
        self.state.away.add(side)
        self._meters.count("sightline_bridge_waits_total", side=side)
        sleeping = asyncio.ensure_future(self._clock.sleep(seconds))
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait((sleeping, stopping), return_when=asyncio.FIRST_COMPLETED)
        finally:
            sleeping.cancel()
            stopping.cancel()

    def _record(self, message: QueueMessage) -> tuple[str, bytes | None, bytes]:
        # The id stays the same when a message is delivered again: repeats meet in one partition of s3.uploads.
        key = message.message_id.encode("utf-8", "surrogatepass")
        body = message.body.encode("utf-8", "surrogatepass")
        if len(body) <= MAX_BODY_BYTES:
            return (UPLOADS, key, body)
        self._meters.count("sightline_bridge_oversized_total")
        number = int.from_bytes(hashlib.blake2b(key, digest_size=7).digest(), "big")
        source = SourceRecord("sqs", 0, number, self._clock.now_ms(), key, body)
        letter = dead_letter(
            source,
            agent=AGENT,
            kind=POISON,
            reason="message_too_large",
            detail=f"{len(body)} bytes in queue message {message.message_id}, at most {MAX_BODY_BYTES} fit a record",
            now_ms=self._clock.now_ms(),
        )
        return (DEAD_LETTERS, letter.key, self._codec.encode(letter.record))


class _Pause:
    """Doubling pauses up to the longest."""

    def __init__(self) -> None:
        self._seconds = _FIRST_PAUSE_SECONDS

    def next_seconds(self) -> float:
        seconds, self._seconds = self._seconds, min(self._seconds * 2, _LONGEST_PAUSE_SECONDS)
        return seconds

    def reset(self) -> None:
        self._seconds = _FIRST_PAUSE_SECONDS
