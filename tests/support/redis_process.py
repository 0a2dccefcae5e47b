"""A Redis server of one test's own, which it may kill and start again."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

from app.settings import RedisSettings, Secret
from app.stack.ports import lease_port
from app.stack.redis_server import redis_binary
from tests.support.eventually import eventually


class RedisProcess:
    """A server on a free loopback port. A kill loses all that is in it; a `durable` one loses nothing it answered."""

    def __init__(self, folder: Path, *, durable: bool = False) -> None:
        self._folder = folder
        self._durable = durable
        self._lease = lease_port(purpose="redis")
        self.port = self._lease.port
        self._process: asyncio.subprocess.Process | None = None

    def settings(self, prefix: str = "test:", *, tombstone_hours: float = 24.0) -> RedisSettings:
        """Settings that point to it."""
        url = Secret(f"redis://127.0.0.1:{self.port}/0")
        return RedisSettings(url=url, prefix=prefix, tombstone_hours=tombstone_hours)

    async def start(self) -> None:
        """Start and wait until it takes connections."""
        place = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._folder))
        kept = ("--appendonly", "yes", "--appendfsync", "always") if self._durable else ("--appendonly", "no")
        self._process = await asyncio.create_subprocess_exec(
            str(redis_binary()), *place, "--save", "", *kept, stdout=asyncio.subprocess.DEVNULL
        )
        await eventually(self._answers, 10, message="redis-server did not start")

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def freeze(self) -> None:
        """Stop it where it is (SIGSTOP): it keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def close(self) -> None:
        """End it and give its port back."""
        await self.kill()
        self._lease.release()

    async def kill(self) -> None:
        """End it at once (SIGKILL)."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
