"""Pool of decoding children: each decodes one picture at a time, is killed at the deadline and replaced at once.

One spare child is kept, so that a picture which kills its child does not delay others by the half second of a start.
All pictures share a memory budget: a child asks before it allocates.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from app.domain.images import ImageLimits, Rejection, RejectReason, check_bytes
from app.inference.budget import Budget, Ticket
from app.inference.decoding.process import WORK, ChildDied, ChildPlan, ChildProcess, ChildTimeout, Result
from app.inference.decoding.protocol import Job
from app.settings import InferenceSettings, LimitSettings

logger = logging.getLogger(__name__)
_SPARE: Final = 1
# A child may be killed by something other than its picture (an operator, a machine without memory). So each picture
# gets a second child before it is rejected.
_TRIES: Final = 2
# Model inputs of one rendition take about 0.5 MB; only pages that are written cost memory.
_BYTES_PER_RENDITION: Final = 1024 * 1024
_RESTART_SECONDS: Final = 1.0
# Upper bound for the model inputs of one content, unless it has many renditions. Byte budgets of callers include it.
INPUT_BYTES: Final = 1024 * 1024
# Budget for larger inputs of all contents in hand: about ten contents of 64 renditions.
_MORE_INPUT_BYTES: Final = 256 * 1024 * 1024


class DecodingStopped(Exception):
    """Error: the pool was closed while a caller waited for a picture.

    Operator: nothing: the process is ending.
    """


@dataclass(slots=True)
class DecodeCounts:
    """Counters of child processes since the start."""

    started: int = 0
    crashed: int = 0
    timed_out: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Result of a job, and its time: waiting for a child, and decoding.

    `release` gives back the memory budget of its inputs. Idempotent.
    """

    result: Result
    queued_seconds: float
    decode_seconds: float
    release: Callable[[], None]


@dataclass(slots=True, eq=False)
class _Work:
    """One job in progress: its waiting time and the units that it holds."""

    ticket: Ticket
    memory: Budget
    inputs: Budget
    queued_seconds: float = 0.0
    memory_bytes: int = 0
    input_bytes: int = 0

    async def ask(self, need_bytes: int) -> bool:
        """See process.Ask. Refuses a request larger than the whole budget."""
        if need_bytes > self.memory.total:
            return False
        asked = asyncio.get_running_loop().time()
        self.memory_bytes += await self.memory.take(need_bytes, self.ticket)
        self.queued_seconds += asyncio.get_running_loop().time() - asked
        return True

    async def hold(self, input_bytes: int) -> None:
        """See process.Hold."""
        if input_bytes > INPUT_BYTES:
            self.input_bytes += await self.inputs.take(input_bytes - INPUT_BYTES, self.ticket)

    def decoded(self) -> None:
        """Give back the memory of decoding."""
        held, self.memory_bytes = self.memory_bytes, 0
        self.memory.give(held)

    def release(self) -> None:
        """Give back the memory of the inputs. Idempotent."""
        held, self.input_bytes = self.input_bytes, 0
        self.inputs.give(held)


class Decoding(Protocol):
    """Decoder of contents for an engine, for previews and for reports. Belongs to one event loop."""

    counts: DecodeCounts

    @property
    def waiting(self) -> int:
        """Number of contents that wait for a decoder."""
        ...

    def promote(self, ticket: Ticket) -> None:
        """Move the ticket's waiting work to the live queue. Call it before the ticket's priority is changed."""
        ...

    def start(self) -> None:
        """Begin to prepare decoders. Idempotent. Returns at once."""
        ...

    async def run(self, content: bytes, job: Job, ticket: Ticket) -> Decoded:
        """Return the result of `job` on `content`. Every failure caused by a content is a rejection. Cancellable."""
        ...

    async def close(self) -> None:
        """Abandon work in progress and release everything. Idempotent."""
        ...


class DecodePool:
    """Decoder of contents in child processes. Belongs to one event loop. Children run until `close`.

    An early call of `start` shortens the wait of the first picture; otherwise the first job calls it.
    """

    def __init__(self, limits: LimitSettings, inference: InferenceSettings, work: str = WORK) -> None:
        self._seconds = limits.decode_seconds
        self._processes = max(1, inference.decode_processes)
        self._gate = Budget(self._processes)
        self._memory = Budget(inference.decode_memory_bytes)
        self._inputs = Budget(_MORE_INPUT_BYTES)
        self._plan = ChildPlan(
            limits=image_limits(limits),
            memory_bytes=inference.decode_memory_bytes,
            cpu_seconds=limits.decode_seconds,
            shared_bytes=max(limits.max_bytes, limits.max_renditions * _BYTES_PER_RENDITION),
            work=work,
        )
        self._idle: deque[ChildProcess] = deque()
        self._arrived = asyncio.Condition()
        self._starting: set[asyncio.Task[None]] = set()
        self._running: set[asyncio.Task[Decoded]] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._started = False
        self._closed = False
        self.counts = DecodeCounts()

    @property
    def waiting(self) -> int:
        """Number of contents that wait for a child."""
        return self._gate.waiting

    def promote(self, ticket: Ticket) -> None:
        """Move the ticket's waiting work to the live queue. Call it before the ticket's priority is changed."""
        self._gate.promote(ticket)
        self._memory.promote(ticket)
        self._inputs.promote(ticket)

    def start(self) -> None:
        """Begin to start the children. Idempotent. Returns at once."""
        if not self._started:
            self._started = True
            for _ in range(self._processes + _SPARE):
                self._start_one()

    async def run(self, content: bytes, job: Job, ticket: Ticket) -> Decoded:
        """Return the result of `job` on `content`. Every failure in a child is a rejection.

        If the caller is cancelled, its child finishes or is killed at the deadline. Raises DecodingStopped.
        """
        # A larger content does not fit into the shared memory and needs no child to be rejected.
        if (too_large := check_bytes(content, self._plan.limits)) is not None:
            return Decoded(too_large, 0.0, 0.0, _nothing)
        self.start()
        loop = asyncio.get_running_loop()
        asked = loop.time()
        await self._gate.take(1, ticket)
        work = _Work(ticket, self._memory, self._inputs, loop.time() - asked)
        task = asyncio.create_task(self._run(content, job, work), name="decode")
        self._running.add(task)
        task.add_done_callback(self._ended)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda _: work.release())
            raise

    def _ended(self, task: asyncio.Task[Decoded]) -> None:
        self._running.discard(task)
        self._gate.give(1)
        if not task.cancelled():
            task.exception()  # retrieved here, because the caller may have been cancelled

    async def _run(self, content: bytes, job: Job, work: _Work) -> Decoded:
        loop = asyncio.get_running_loop()
        for tries_left in reversed(range(_TRIES)):
            asked = loop.time()
            child = await self._child()
            began = loop.time()
            work.queued_seconds += began - asked
            waited = work.queued_seconds
            try:
                result = await child.run(content, job, self._seconds, work.ask, work.hold)
            except ChildTimeout as error:
                self.counts.timed_out += 1
                self._replace(child)
                result = Rejection(RejectReason.DECODE_TIMEOUT, str(error))
            except ChildDied as error:
                self.counts.crashed += 1
                self._replace(child)
                if tries_left:
                    continue
                result = Rejection(RejectReason.DECODER_CRASHED, str(error))
            except BaseException:
                # Cancelled at the end of the process, or a programming error: the state of the child is unknown.
                self._replace(child)
                work.release()
                raise
            else:
                await self._arrive(child)
            finally:
                work.decoded()
            seconds = loop.time() - began - (work.queued_seconds - waited)
            return Decoded(result, work.queued_seconds, seconds, work.release)
        raise AssertionError("unreachable: the last try returns")

    async def _child(self) -> ChildProcess:
        async with self._arrived:
            while True:
                while self._idle:
                    child = self._idle.popleft()
                    if child.alive:
                        return child
                    self._replace(child)
                if self._closed:
                    raise DecodingStopped("decoding has stopped")
                await self._arrived.wait()

    async def _arrive(self, child: ChildProcess) -> None:
        if self._closed:
            self._end(child)
            return
        async with self._arrived:
            self._idle.append(child)
            self._arrived.notify()

    def _replace(self, child: ChildProcess) -> None:
        self._end(child)
        self._start_one()

    def _end(self, child: ChildProcess) -> None:
        ending = asyncio.create_task(child.end(), name="end a decoder")
        self._ending.add(ending)
        ending.add_done_callback(self._ending.discard)

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
                self._end(child)
                logger.warning("a decoder does not start, trying again: %s", error)
                await asyncio.sleep(_RESTART_SECONDS)
                continue
            except asyncio.CancelledError:
                self._end(child)
                raise
            if self.counts.started == 0:
                logger.info("decoders run in processes of their own; network of a decoder: %s", child.network)
            self.counts.started += 1
            await self._arrive(child)
            return

    async def close(self) -> None:
        """End all children and abandon the pictures in progress. Idempotent."""
        self._closed = True
        tasks = [*self._starting, *self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        async with self._arrived:
            self._arrived.notify_all()
        while self._idle:
            self._end(self._idle.popleft())
        await asyncio.gather(*self._ending)


def image_limits(limits: LimitSettings) -> ImageLimits:
    """Return the limits that decoders check."""
    return ImageLimits(limits.max_bytes, limits.max_pixels, limits.max_side, limits.max_frames)


def _nothing() -> None:
    """Release nothing: a picture that was rejected at once holds no memory."""
