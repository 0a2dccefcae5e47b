"""Known contents in Redis (or Valkey), shared by all processes: `<prefix>r:{<sha256>}` holds a row of the table.

What was never scored here but came through the stream is found in the index's latest outcome of the same bytes.
"""

from __future__ import annotations

from typing import Any, Final

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from app.adapters.unreachable import unreachable
from app.domain.contents import ContentRow, decode_row, encode_row, row_of
from app.errors import IndexUnavailable
from app.ports import Index
from app.settings import RedisSettings

# Callers give up far sooner; this bounds what a call that nobody waits for any more holds.
_SOCKET_SECONDS: Final = 1.0
# A request needs a connection for a millisecond, so 16 of them carry thousands of requests a second.
_CONNECTIONS: Final = 16
_MS_PER_DAY: Final = 86_400_000


class RedisContents:
    """The `ContentCache` on a Redis server, in front of an index. Belongs to one event loop."""

    def __init__(self, settings: RedisSettings, index: Index) -> None:
        self._index = index
        self._prefix = settings.prefix
        self._ttl_ms = round(settings.content_days * _MS_PER_DAY) or None
        self._pool: Any = redis.asyncio.BlockingConnectionPool.from_url(
            settings.url.reveal(),
            max_connections=_CONNECTIONS,
            timeout=_SOCKET_SECONDS,
            socket_timeout=_SOCKET_SECONDS,
            socket_connect_timeout=_SOCKET_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
        self._redis: Any = redis.asyncio.Redis(connection_pool=self._pool)

    async def get(self, sha256: str) -> ContentRow | None:
        """Return what is known of these bytes; see `ContentCache`."""
        try:
            value: bytes | None = await self._redis.get(self._key(sha256))
        except (RedisError, OSError) as error:
            raise IndexUnavailable(self._unreachable(error)) from error
        row = decode_row(value)
        if row is not None:
            return row
        prediction = await self._index.content(sha256)
        return row_of(prediction) if prediction is not None else None

    async def put(self, sha256: str, row: ContentRow) -> None:
        """Keep `row`; see `ContentCache`."""
        try:
            await self._redis.set(self._key(sha256), encode_row(row), px=self._ttl_ms)
        except (RedisError, OSError) as error:
            raise IndexUnavailable(self._unreachable(error)) from error

    def _key(self, sha256: str) -> str:
        return f"{self._prefix}r:{{{sha256}}}"

    def _unreachable(self, error: BaseException) -> str:
        asked = self._pool.connection_kwargs
        where = asked.get("path") or f"{asked.get('host')}:{asked.get('port')}"
        return unreachable("Redis", where, "SIGHTLINE_REDIS_URL", error)

    async def close(self) -> None:
        """Release connections; the index stays open."""
        await self._redis.aclose()
        await self._pool.disconnect()
