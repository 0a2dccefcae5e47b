"""Device: one executor thread, and the queues of micro-batches for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from app.domain.batching import BatchQueue, BatchRule
from app.inference.budget import Ticket

Run = Callable[[Sequence[Any]], Sequence[Any]]
"""Function that computes the answers of a batch, one for each question in order. Blocks; runs on the device's thread.
"""


@dataclass(slots=True, eq=False)
class _Work:
    question: Any
    ticket: Ticket
    answer: asyncio.Future[Any]


@dataclass(slots=True)
class DeviceCounts:
    """Counters of the device since its creation, for metrics and the benchmark."""

    batches: dict[str, int] = field(default_factory=dict)
    members: dict[str, int] = field(default_factory=dict)
    busy_seconds: float = 0.0


class Device:
    """Executor of batches, one at a time. Belongs to one event loop, which it never blocks."""

    def __init__(self, rules: Mapping[str, BatchRule], runs: Mapping[str, Run]) -> None:
        self.counts = DeviceCounts()
        self._runs = runs
        self._queues: dict[str, BatchQueue[_Work]] = {name: BatchQueue(rule) for name, rule in rules.items()}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="device")
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure: BaseException | None = None

    @property
    def failure(self) -> BaseException | None:
        """Exception of a model, or None. After it the device answers no more questions."""
        return self._failure

    def waiting(self) -> dict[str, int]:
        """Return the number of waiting questions by queue."""
        return {name: len(queue) for name, queue in self._queues.items()}

    async def ask(self, name: str, question: Any, ticket: Ticket) -> Any:
        """Return the answer of queue `name` to `question`. All members of a batch get the model's exception."""
        if self._failure is not None:
            raise self._failure
        if self._task is None:
            self._task = asyncio.create_task(self._serve(), name="device")
        work = _Work(question, ticket, asyncio.get_running_loop().create_future())
        queue = self._queues[name]
        queue.add(work, ticket.priority, time.monotonic())
        if len(queue) == 1 or len(queue) >= queue.rule.max_batch:
            self._wake.set()
        try:
            return await work.answer
        finally:
            queue.discard(work)

    def promote(self, ticket: Ticket) -> None:
        """Move the ticket's waiting work to the live queues."""
        for queue in self._queues.values():
            queue.promote(lambda work: work.ticket is ticket)

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            now = time.monotonic()
            name, due_at = self._next()
            if name is None or due_at > now:
                timer = None if name is None else loop.call_later(due_at - now, self._wake.set)
                await self._wake.wait()
                if timer is not None:
                    timer.cancel()
                continue
            batch = [work for work in self._queues[name].take() if not work.answer.done()]
            if batch:
                await self._run(name, batch, loop)

    def _next(self) -> tuple[str | None, float]:
        """Return the queue to serve next and its time. Among due queues, live work goes first, then the longest due."""
        now = time.monotonic()
        best: tuple[bool, bool, float, str] | None = None
        for name, queue in self._queues.items():
            due_at = queue.due_at()
            if due_at is None:
                continue
            rank = (due_at > now, not queue.urgent, due_at, name)
            if best is None or rank < best:
                best = rank
        return (None, 0.0) if best is None else (best[3], best[2])

    async def _run(self, name: str, batch: list[_Work], loop: asyncio.AbstractEventLoop) -> None:
        began = time.monotonic()
        run, questions = self._runs[name], [work.question for work in batch]
        done, _ = await asyncio.wait([loop.run_in_executor(self._thread, run, questions)])
        outcome = done.pop()
        error = outcome.exception()
        if error is not None:
            self._failure = error
        answers = () if error is not None else outcome.result()
        self.counts.busy_seconds += time.monotonic() - began
        self.counts.batches[name] = self.counts.batches.get(name, 0) + 1
        self.counts.members[name] = self.counts.members.get(name, 0) + len(batch)
        for index, work in enumerate(batch):
            if work.answer.done():
                continue
            if error is not None:
                work.answer.set_exception(error)
            else:
                work.answer.set_result(answers[index])

    async def close(self) -> None:
        """Cancel waiting questions and wait for the batch on the device."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        for queue in self._queues.values():
            while len(queue):
                for work in queue.take():
                    work.answer.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
