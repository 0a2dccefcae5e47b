"""State that API processes share in Redis: console sessions, and the use of each API key.

<prefix>s:<sha256 of the session id>   key id and end of the session; expires with it
<prefix>u:<key id>                     requests counted; expires after a minute without one
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from app.domain.sessions import ConsoleSession
from app.ports.clock import Clock
from app.settings import RedisSettings
from app.systems.redis.client import connect, redis_errors

_USE_SECONDS: Final = 60


class _Connected:
    def __init__(self, settings: RedisSettings) -> None:
        self._prefix = settings.prefix
        self._redis: Any = connect(settings)

    async def close(self) -> None:
        """Release connections."""
        await self._redis.aclose()


class RedisSessions(_Connected):
    """`Sessions` in Redis."""

    def __init__(self, settings: RedisSettings, clock: Clock) -> None:
        super().__init__(settings)
        self._clock = clock

    async def put(self, digest: str, session: ConsoleSession) -> None:
        """See Sessions."""
        left_ms = session.expires_ms - self._clock.now_ms()
        if left_ms <= 0:
            return
        with redis_errors(self._redis):
            await self._redis.set(self._name(digest), f"{session.key_id} {session.expires_ms}", px=left_ms)

    async def find(self, digest: str) -> ConsoleSession | None:
        """See Sessions."""
        with redis_errors(self._redis):
            kept: bytes | None = await self._redis.get(self._name(digest))
        if kept is None:
            return None
        key_id, _, expires_ms = kept.decode().partition(" ")
        session = ConsoleSession(key_id, int(expires_ms))
        return session if session.expires_ms > self._clock.now_ms() else None

    async def end(self, digest: str) -> None:
        """See Sessions."""
        with redis_errors(self._redis):
            await self._redis.delete(self._name(digest))

    def _name(self, digest: str) -> str:
        return f"{self._prefix}s:{digest}"


class RedisUse(_Connected):
    """`SharedUse` in Redis: one round trip for all keys."""

    async def add(self, used: Mapping[str, int]) -> dict[str, int]:
        """See SharedUse."""
        pipe = self._redis.pipeline(transaction=False)
        for key_id, count in used.items():
            pipe.incrby(f"{self._prefix}u:{key_id}", count)
            pipe.expire(f"{self._prefix}u:{key_id}", _USE_SECONDS)
        with redis_errors(self._redis):
            answers: list[Any] = await pipe.execute()
        return {key_id: int(total) for key_id, total in zip(used, answers[::2], strict=True)}
