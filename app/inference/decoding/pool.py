"""The pool of decoding children: one picture each, killed at the deadline, replaced at once.

One child more than work at the same time is kept, so that a picture which kills its child costs no neighbour the half
second of a start. Memory is a budget that all pictures share: a child asks before it allocates.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from app.domain.images import ImageLimits, Rejection, RejectReason
from app.inference.budget import Budget, Ticket
from app.inference.decoding.process import ChildDied, ChildPlan, ChildProcess, ChildTimeout, Result
from app.inference.decoding.protocol import Job
from app.settings import InferenceSettings, LimitSettings

logger = logging.getLogger(__name__)
_SPARE: Final = 1
# A child that was killed by something else than its picture (an operator, a machine without memory) is no reason to
# reject the picture: it gets one more child.
_TRIES: Final = 2
# Model inputs of one rendition are some 0.5 MB; only pages that are touched cost memory.
_BYTES_PER_RENDITION: Final = 1024 * 1024
_RESTART_SECONDS: Final = 1.0


class DecodingStopped(Exception):
    """The pool was closed while somebody waited for a picture.

    Operator: nothing: the process is ending.
    """


@dataclass(slots=True)
class DecodeCounts:
    """What became of children since the start."""

    started: int = 0
    crashed: int = 0
    timed_out: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a job gave, and where the time went: waiting for a child, and working."""

    result: Result
    queued_seconds: float
    decode_seconds: float


@dataclass(slots=True, eq=False)
class _Tally:
    """Times of one job."""

    queued_seconds: float = 0.0
    began: float = field(default=0.0)


class DecodePool:
    """Decodes contents in child processes. Belongs to one event loop; children run until `close`.

    `start` may be called early so that the first picture waits less; the first job calls it otherwise.
    """

    def __init__(self, limits: LimitSettings, inference: InferenceSettings) -> None:
        self._seconds = limits.decode_seconds
        self._processes = max(1, inference.decode_processes)
        self._memory_bytes = inference.decode_memory_bytes
        self._gate = Budget(self._processes)
        self._memory = Budget(self._memory_bytes)
        self._plan = ChildPlan(
            limits=image_limits(limits),
            memory_bytes=self._memory_bytes,
            cpu_seconds=limits.decode_seconds,
            shared_bytes=max(limits.max_bytes, limits.max_renditions * _BYTES_PER_RENDITION),
        )
        self._idle: deque[ChildProcess] = deque()
        self._arrived = asyncio.Condition()
        self._starting: set[asyncio.Task[None]] = set()
        self._running: set[asyncio.Task[Decoded]] = set()
        self._started = False
        self._closed = False
        self.counts = DecodeCounts()

    @property
    def waiting(self) -> int:
        """How many contents wait for a child."""
        return self._gate.waiting

    def promote(self, ticket: Ticket) -> None:
        """Move the ticket's waiting work to the live queue. Call it before the ticket's priority is changed."""
        self._gate.promote(ticket)
        self._memory.promote(ticket)

    def start(self) -> None:
        """Begin to start the children. Idempotent; returns at once."""
        if not self._started:
            self._started = True
            for _ in range(self._processes + _SPARE):
                self._start_one()

    async def run(self, content: bytes, job: Job, ticket: Ticket) -> Decoded:
        """Return what `job` gives on `content`; what goes wrong in a child is a rejection.

        A caller that is cancelled leaves its child to finish, or to be killed at the deadline. Raises DecodingStopped.
        """
        self.start()
        tally = _Tally(began=asyncio.get_running_loop().time())
        await self._gate.take(1, ticket)
        work = asyncio.create_task(self._run(content, job, ticket, tally), name="decode")
        self._running.add(work)
        work.add_done_callback(self._ended)
        return await asyncio.shield(work)

    def _ended(self, work: asyncio.Task[Decoded]) -> None:
        self._running.discard(work)
        self._gate.give(1)
        if not work.cancelled():
            work.exception()  # retrieved: the caller may be gone

    async def _run(self, content: bytes, job: Job, ticket: Ticket, tally: _Tally) -> Decoded:
        loop = asyncio.get_running_loop()
        for attempt in range(1, _TRIES + 1):
            child = await self._child()
            taken = 0

            async def ask(need_bytes: int) -> bool:
                nonlocal taken
                if need_bytes > self._memory_bytes:
                    return False
                asked = loop.time()
                taken += await self._memory.take(need_bytes, ticket)
                tally.queued_seconds += loop.time() - asked
                return True

            began = loop.time()
            tally.queued_seconds += began - tally.began
            try:
                result = await child.run(content, job, self._seconds, ask)
            except ChildTimeout as error:
                self.counts.timed_out += 1
                await self._replace(child)
                result = Rejection(RejectReason.DECODE_TIMEOUT, str(error))
            except ChildDied as error:
                self.counts.crashed += 1
                await self._replace(child)
                if attempt < _TRIES:
                    tally.began = loop.time()
                    continue
                result = Rejection(RejectReason.DECODER_CRASHED, str(error))
            except BaseException:
                # Cancelled at the end of the process, or a mistake of ours: what the child does is not known.
                await self._replace(child)
                raise
            else:
                await self._arrive(child)
            finally:
                self._memory.give(taken)
            return Decoded(result, tally.queued_seconds, loop.time() - began)
        raise AssertionError("unreachable: the last attempt returns")

    async def _child(self) -> ChildProcess:
        async with self._arrived:
            while not self._idle:
                if self._closed:
                    raise DecodingStopped("decoding has stopped")
                await self._arrived.wait()
            return self._idle.popleft()

    async def _arrive(self, child: ChildProcess) -> None:
        if self._closed:
            await child.end()
            return
        async with self._arrived:
            self._idle.append(child)
            self._arrived.notify()

    async def _replace(self, child: ChildProcess) -> None:
        self._start_one()
        await child.end()

    def _start_one(self) -> None:
        if not self._closed:
            task = asyncio.create_task(self._start_child(), name="start a decoder")
            self._starting.add(task)
            task.add_done_callback(self._starting.discard)

    async def _start_child(self) -> None:
        while not self._closed:
            child = ChildProcess(self._plan)
            try:
                await child.start()
            except (ChildDied, OSError) as error:
                await child.end()
                logger.warning("a decoder does not start, trying again: %s", error)
                await asyncio.sleep(_RESTART_SECONDS)
                continue
            except asyncio.CancelledError:
                await child.end()
                raise
            if self.counts.started == 0:
                logger.info("decoders run in processes of their own; network of a decoder: %s", child.network)
            self.counts.started += 1
            await self._arrive(child)
            return

    async def close(self) -> None:
        """End all children; pictures being decoded are given up. Idempotent."""
        self._closed = True
        tasks = [*self._starting, *self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with self._arrived:
            self._arrived.notify_all()
        while self._idle:
            await self._idle.popleft().end()


def image_limits(limits: LimitSettings) -> ImageLimits:
    """Return the limits that decoders check."""
    return ImageLimits(limits.max_bytes, limits.max_pixels, limits.max_side, limits.max_frames)
