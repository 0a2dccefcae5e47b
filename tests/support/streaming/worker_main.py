"""The entry module of worker processes in tests: `python -m tests.support.streaming.worker_main AGENT [FAILPOINT]`.

The same worker as in production, with the echo processor and, where a test asks for it, a producer that ends the
process at an exact point: `before-commit:N` (claims are durable, the Nth transaction with outputs is not begun) or
`after-commit:N` (it is committed, nothing after it has happened).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

from app import logs
from app.compose.bootstrap import Parts, run_worker
from app.settings import load_settings
from app.streaming.ports import LaneProducer, LaneProducers, SourcePartition, WireOutput
from tests.support.streaming.processors import echo


class FailPoint:
    """Ends this process with SIGKILL at one point."""

    def __init__(self, text: str) -> None:
        self.where, _, number = text.partition(":")
        self.left = int(number)

    def reached(self, where: str) -> None:
        """Die if this is the point."""
        if where == self.where:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class FailingProducer:
    """A LaneProducer with fail points around its transactions."""

    def __init__(self, inner: LaneProducer, point: FailPoint) -> None:
        self._inner = inner
        self._point = point

    async def start(self) -> None:
        await self._inner.start()

    async def publish(self, outputs: Sequence[WireOutput], next_offset: int) -> None:
        if outputs:
            self._point.reached("before-commit")
        await self._inner.publish(outputs, next_offset)
        if outputs:
            self._point.reached("after-commit")

    async def close(self) -> None:
        await self._inner.close()


class FailingProducers:
    """Makes FailingProducers."""

    def __init__(self, inner: LaneProducers, point: FailPoint) -> None:
        self._inner = inner
        self._point = point

    def create(self, source: SourcePartition) -> LaneProducer:
        return FailingProducer(self._inner.create(source), self._point)


def main() -> None:
    """Run one worker until it is ended."""
    settings = load_settings(os.environ)
    logs.set_up(settings.worker)
    agent, *points = sys.argv[1:]
    parts = Parts(processor=echo)
    if points:
        point = FailPoint(points[0])
        parts = Parts(processor=echo, producers=lambda inner: FailingProducers(inner, point))
    asyncio.run(run_worker(settings, agent, parts))


if __name__ == "__main__":
    main()
