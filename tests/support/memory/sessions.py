"""The memory twins of what API processes share in Redis: sessions, and the use of keys."""

from __future__ import annotations

from collections.abc import Mapping

from app.domain.sessions import ConsoleSession
from app.errors import RedisUnavailable
from app.ports.clock import Clock


class MemorySessions:
    """`Sessions` in a dictionary. `available` set to False makes it answer as a Redis that is away."""

    def __init__(self, clock: Clock) -> None:
        self.available = True
        self.kept: dict[str, ConsoleSession] = {}
        self._clock = clock

    async def put(self, digest: str, session: ConsoleSession) -> None:
        """See Sessions."""
        self._check()
        self.kept[digest] = session

    async def find(self, digest: str) -> ConsoleSession | None:
        """See Sessions."""
        self._check()
        session = self.kept.get(digest)
        return None if session is None or session.expires_ms <= self._clock.now_ms() else session

    async def end(self, digest: str) -> None:
        """See Sessions."""
        self._check()
        self.kept.pop(digest, None)

    async def close(self) -> None:
        """Nothing is held open."""

    def _check(self) -> None:
        if not self.available:
            raise RedisUnavailable("the memory sessions were made unavailable")


class MemoryUse:
    """`SharedUse` in a dictionary; nothing expires. `available` as above."""

    def __init__(self) -> None:
        self.available = True
        self._totals: dict[str, int] = {}

    async def add(self, used: Mapping[str, int]) -> dict[str, int]:
        """See SharedUse."""
        if not self.available:
            raise RedisUnavailable("the memory counters were made unavailable")
        for key, count in used.items():
            self._totals[key] = self._totals.get(key, 0) + count
        return {key: self._totals[key] for key in used}

    async def close(self) -> None:
        """Nothing is held open."""
