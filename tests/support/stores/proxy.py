"""A proxy before a real store that answers in its place, stalls, cuts bodies and resets connections as a test says."""

from __future__ import annotations

import asyncio
import random
import re
import socket
import struct
from collections import Counter
from enum import StrEnum
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

from tests.support.stores.faulty import error
from tests.support.stores.loopback_server import LoopbackServer

# So many GETs of one object fail at most, as many as one attempt at an upload makes: its next attempt is read. However
# slow a machine is, nothing then waits for the retry topics of 5 minutes and an hour.
FAILING_GETS: Final = 3
_FAILING_SHARE: Final = 0.6
_NO_LINGER: Final = struct.pack("ii", 1, 0)


class Fault(StrEnum):
    """What may happen to a request."""

    UNAVAILABLE = "503"
    SILENT = "silent"
    STALLED_BODY = "stalled body"
    CUT_BODY = "cut body"
    RESET = "reset"


# Those for requests without a body in their answer.
_WITHOUT_BODY: Final = (Fault.UNAVAILABLE, Fault.SILENT, Fault.RESET)


class StoreProxy:
    """Forwards requests to the store at `endpoint`, one a connection; signatures stay true.

    `away()`: nothing reaches the store, every request is answered 503 or reset. `flaky()`: of each object the first
    FAILING_GETS GETs fail with a chance of 60 %, each in one of the ways of Fault; which fail and how follows from
    `seed`, the object and the number of the GET alone. `forgetful()`: the first PUT of each object reaches the store,
    and its answer is lost. `hold()`: PUTs wait on their way to the store, `held` of them, until `heal()`: everything is
    forwarded, as from the start.
    """

    def __init__(self, endpoint: str, *, seed: int) -> None:
        address = urlsplit(endpoint)
        self._host, self._port = address.hostname or "", address.port or 80
        self._seed = seed
        self._probes = random.Random(seed)
        self._mode = "healthy"
        self._gets: Counter[str] = Counter()
        self._forgotten: set[str] = set()
        self._passable = asyncio.Event()
        self._passable.set()
        self.held = 0
        self._server = LoopbackServer(self._talk)
        self.endpoint = ""
        self.injected: Counter[Fault] = Counter()

    async def __aenter__(self) -> StoreProxy:
        self.endpoint = await self._server.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._server.stop()

    def away(self) -> None:
        """From here on the store is away as a whole."""
        self._mode = "away"

    def flaky(self) -> None:
        """From here on some requests fail."""
        self._mode = "flaky"

    def forgetful(self) -> None:
        """From here on the answers to new objects are lost."""
        self._mode = "forgetful"

    def hold(self) -> None:
        """From here on new objects are on their way, and do not arrive."""
        self._passable.clear()

    def heal(self) -> None:
        """From here on every request is forwarded."""
        self._mode = "healthy"
        self._passable.set()

    @property
    def objects(self) -> int:
        """How many objects were asked for while the store was not away."""
        return len(self._gets)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._answer(await reader.readuntil(b"\r\n\r\n"), reader, writer)

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        method, path, _ = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        body = await reader.readexactly(int(length[1])) if length else b""
        if method == "PUT" and not self._passable.is_set():
            self.held += 1
            await self._passable.wait()
            answer = await self._forward(head + body)
            self.held -= 1
            writer.write(answer)
            await writer.drain()
            return
        fault = self._fault(method, path)
        if fault is not None:
            self.injected[fault] += 1
        match fault:
            case Fault.UNAVAILABLE:
                await error(503, "SlowDown", "connection: close\r\n")(writer)
            case Fault.SILENT:
                await reader.read()
            case Fault.RESET:
                if method == "PUT" and self._mode == "forgetful":
                    await self._forward(head + body)
                _reset(writer)
            case Fault.STALLED_BODY:
                writer.write(_half(await self._forward(head)))
                await writer.drain()
                await reader.read()
            case Fault.CUT_BODY:
                writer.write(_half(await self._forward(head)))
            case None:
                writer.write(await self._forward(head + body))
        await writer.drain()

    def _fault(self, method: str, path: str) -> Fault | None:
        if self._mode == "away":
            return self._probes.choice((Fault.UNAVAILABLE, Fault.RESET))
        if method == "PUT":
            lost = self._mode == "forgetful" and path not in self._forgotten
            self._forgotten.add(path)
            return Fault.RESET if lost else None
        # The bucket's name differs from run to run.
        key = path.split("/", 2)[2] if method == "GET" and path.count("/") > 1 else ""
        if not key:
            # A probe of bucket or store: its answer is of one moment.
            failing = self._mode == "flaky" and self._probes.random() < _FAILING_SHARE
            return self._probes.choice(_WITHOUT_BODY) if failing else None
        self._gets[key] += 1
        if self._mode == "healthy" or self._gets[key] > FAILING_GETS:
            return None
        chance = random.Random(f"{self._seed} {key} {self._gets[key]}")
        return chance.choice(tuple(Fault)) if chance.random() < _FAILING_SHARE else None

    async def _forward(self, request: bytes) -> bytes:
        """Return the store's whole answer."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        try:
            # Not among the signed headers; the store then ends its answer by closing.
            first, separator, rest = request.partition(b"\r\n\r\n")
            writer.write(first + b"\r\nConnection: close" + separator + rest)
            return await reader.read()
        finally:
            writer.close()


def _half(answer: bytes) -> bytes:
    """Return the head of an answer and half of its body."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    return head + separator + body[: len(body) // 2]


def _reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with a reset (RST) instead of an orderly end."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    writer.transport.abort()
