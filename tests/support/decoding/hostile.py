"""A decoder that does what a hijacked or broken one would: named by the content that asks for it."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

from app.domain.images import Rejection, RejectReason
from app.inference.decoding.pictures import Grant
from app.inference.decoding.protocol import Answer, Encoded, Job
from app.inference.decoding.work import DecodeWork, Shared

NAME = "tests.support.decoding.hostile:HostileWork"


class HostileWork(DecodeWork):
    """Contents that begin with `!` are orders, all others are decoded as ever."""

    def answer(self, content: bytes, job: Job, shared: Shared, grant: Grant) -> Answer:
        if not content.startswith(b"!"):
            return super().answer(content, job, shared, grant)
        order, _, rest = content.decode().partition(" ")
        if order == "!ask":
            for size in rest.split():
                grant(int(size))
        try:
            return Rejection(RejectReason.UNDECODABLE, _ORDERS[order](rest))
        except MemoryError:
            return Rejection(RejectReason.TOO_MUCH_MEMORY, "refused by the system")
        except OSError as error:
            return Rejection(RejectReason.UNDECODABLE, f"refused: {type(error).__name__}")
        except _Liar:
            return Encoded(2**40)


class _Liar(Exception):
    pass


def _die(name: str) -> str:
    os.kill(os.getpid(), signal.Signals[name])
    return "survived"


def _hang(_: str) -> str:
    signal.pause()
    return "woke up"


def _spin(_: str) -> str:
    while True:
        pass


def _eat(size: str) -> str:
    return f"got {len(bytearray(int(size)))} bytes"


def _connect(address: str) -> str:
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=5):
        return "connected"


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8", errors="replace")


def _run(path: str) -> str:
    return f"ran: {os.spawnv(os.P_WAIT, path, [path])}"


def _lie(_: str) -> str:
    raise _Liar


_ORDERS: dict[str, Callable[[str], str]] = {
    "!die": _die,
    "!hang": _hang,
    "!spin": _spin,
    "!eat": _eat,
    "!connect": _connect,
    "!read": _read,
    "!run": _run,
    "!lie": _lie,
}
