"""A lean HTTP/1.1 client for measurements: kept connections, requests made beforehand, little work for each answer.

A client that costs as much as the server would measure itself, on a machine where both share two cores.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from app.errors import StartupRefused

_ANSWER_SECONDS: Final = 30.0


@dataclass(slots=True)
class LoadResult:
    """What came of a round: seconds from sending (or from when it should have been sent) to the last byte."""

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


class _Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._answer: asyncio.Future[tuple[int, bytes]] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is one by its methods, not by its class.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.find(b"content-length:")
        length = 0 if at < 0 else int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) < end + 4 + length or self._answer is None:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        self._buffer.clear()
        answer, self._answer = self._answer, None
        if not answer.done():
            answer.set_result((int(head[9:12]), body))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(StartupRefused(f"the server closed the connection: {exc or 'no reason given'}"))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await asyncio.wait_for(self._answer, _ANSWER_SECONDS)

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Load:
    """Kept connections to one loopback port; use as `async with`."""

    def __init__(self, port: int, connections: int) -> None:
        self._port = port
        self._count = connections
        self._connections: list[_Connection] = []

    async def __aenter__(self) -> Load:
        loop = asyncio.get_running_loop()
        for _ in range(self._count):
            _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
            self._connections.append(connection)
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._connections:
            connection.close()

    async def as_fast_as_possible(self, request: Callable[[], bytes], seconds: float) -> LoadResult:
        """Keep every connection busy for `seconds`."""
        result, began = LoadResult(), time.perf_counter()

        async def one(connection: _Connection) -> None:
            while (sent := time.perf_counter()) - began < seconds:
                status, _ = await connection.ask(request())
                result.seconds.append(time.perf_counter() - sent)
                result.statuses[status] += 1

        await asyncio.gather(*(one(connection) for connection in self._connections))
        result.lasted_seconds = time.perf_counter() - began
        return result

    async def at_rate(self, request: Callable[[], bytes], per_second: float, seconds: float) -> LoadResult:
        """Send `per_second` at even intervals; the time of each counts from when it should have been sent."""
        result, began = LoadResult(), time.perf_counter()
        idle = list(self._connections)
        free = asyncio.Semaphore(len(idle))

        async def one(connection: _Connection, due: float) -> None:
            status, _ = await connection.ask(request())
            result.seconds.append(time.perf_counter() - due)
            result.statuses[status] += 1
            idle.append(connection)
            free.release()

        async with asyncio.TaskGroup() as group:
            for number in range(round(per_second * seconds)):
                due = began + number / per_second
                if (early := due - time.perf_counter()) > 0:
                    await asyncio.sleep(early)
                await free.acquire()
                group.create_task(one(idle.pop(), due))
        result.lasted_seconds = time.perf_counter() - began
        return result


def get(path: str, token: str = "") -> bytes:
    """Return the bytes of a GET request."""
    credentials = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{credentials}\r\n".encode()
