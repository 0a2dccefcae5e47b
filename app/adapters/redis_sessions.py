"""What API processes share in Redis: console sessions, and how often each API key was used.

<prefix>s:<sha256 of the session id>   key id and end of the session; expires with it
<prefix>u:<key id>                     requests counted; expires after a minute without one
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.adapters.unreachable import unreachable
from app.domain.sessions import ConsoleSession
from app.errors import IndexUnavailable
from app.ports import Clock
from app.settings import RedisSettings

_SOCKET_SECONDS: Final = 5.0
_CONNECT_SECONDS: Final = 3.0
_USE_SECONDS: Final = 60


class _Connected:
    def __init__(self, settings: RedisSettings) -> None:
        self._prefix = settings.prefix
        self._redis: Any = redis.asyncio.from_url(
            settings.url.reveal(),
            socket_timeout=_SOCKET_SECONDS,
            socket_connect_timeout=_CONNECT_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )

    async def close(self) -> None:
        """Release connections."""
        await self._redis.aclose()

    def _away(self, error: BaseException) -> IndexUnavailable:
        asked = self._redis.connection_pool.connection_kwargs
        where = asked.get("path") or f"{asked.get('host')}:{asked.get('port')}"
        return IndexUnavailable(unreachable("Redis", where, "SIGHTLINE_REDIS_URL", error))


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
        try:
            await self._redis.set(self._name(digest), f"{session.key_id} {session.expires_ms}", px=left_ms)
        except (RedisError, OSError) as error:
            raise self._away(error) from error

    async def find(self, digest: str) -> ConsoleSession | None:
        """See Sessions."""
        try:
            kept: bytes | None = await self._redis.get(self._name(digest))
        except (RedisError, OSError) as error:
            raise self._away(error) from error
        if kept is None:
            return None
        key_id, _, expires_ms = kept.decode().partition(" ")
        session = ConsoleSession(key_id, int(expires_ms))
        return session if session.expires_ms > self._clock.now_ms() else None

    async def end(self, digest: str) -> None:
        """See Sessions."""
        try:
            await self._redis.delete(self._name(digest))
        except (RedisError, OSError) as error:
            raise self._away(error) from error

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
        try:
            answers: list[Any] = await pipe.execute()
        except (RedisError, OSError) as error:
            raise self._away(error) from error
        return {key_id: int(total) for key_id, total in zip(used, answers[::2], strict=True)}
