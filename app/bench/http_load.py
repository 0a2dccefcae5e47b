"""Load on one loopback port: as fast as answers come, or at a steady rate whatever comes back."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from app.bench.lean_http import LeanConnection


@dataclass(slots=True)
class LoadResult:
    """What came of a round: seconds from when each request was sent, or should have been, to its last byte."""

    seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    lasted_seconds: float = 0.0

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return len(self.seconds) / max(self.lasted_seconds, 1e-9)

    def quantile(self, part: float) -> float:
        """Return the seconds within which this part of the answers came."""
        ordered = sorted(self.seconds)
        return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


class Load:
    """Kept connections to `url`; `path` gives what each request asks for. Use as `async with`."""

    def __init__(self, url: str, headers: Mapping[str, str], path: Callable[[], str], connections: int) -> None:
        self._clients = [LeanConnection(url, headers) for _ in range(connections)]
        self._path = path
        self._held = AsyncExitStack()

    async def __aenter__(self) -> Self:
        """Connect."""
        for client in self._clients:
            await self._held.enter_async_context(client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._held.aclose()

    async def as_fast_as_possible(self, seconds: float) -> LoadResult:
        """Keep every connection busy for `seconds`. Raises StartupRefused when the server goes."""
        result, began = LoadResult(), time.perf_counter()

        async def one(client: LeanConnection) -> None:
            while (sent := time.perf_counter()) - began < seconds:
                status, _ = await client.ask("GET", self._path())
                result.seconds.append(time.perf_counter() - sent)
                result.statuses[status] += 1

        await asyncio.gather(*(one(client) for client in self._clients))
        result.lasted_seconds = time.perf_counter() - began
        return result

    async def at_rate(self, per_second: float, seconds: float) -> LoadResult:
        """Send `per_second` at even intervals; the time of each counts from when it should have been sent."""
        result, began = LoadResult(), time.perf_counter()
        idle = list(self._clients)
        free = asyncio.Semaphore(len(idle))

        async def one(client: LeanConnection, due: float) -> None:
            status, _ = await client.ask("GET", self._path())
            result.seconds.append(time.perf_counter() - due)
            result.statuses[status] += 1
            idle.append(client)
            free.release()

        async with asyncio.TaskGroup() as group:
            for number in range(round(per_second * seconds)):
                due = began + number / per_second
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                await free.acquire()
                group.create_task(one(idle.pop(0), due))
        result.lasted_seconds = time.perf_counter() - began
        return result
