"""Scores of contents in Redis (or Valkey), shared by all processes: `<prefix>r:{<sha256>}` holds a row of the table.

Scores from the stream are taken from the index: from its latest outcome of the same bytes.
"""

from __future__ import annotations

from typing import Any, Final

from app.domain.contents import ContentRow, decode_row, encode_row, row_of
from app.ports.index import Index
from app.settings import RedisSettings
from app.systems.redis.client import connect, redis_errors
from app.topics import DAY_MS

# Callers time out far sooner. This limit ends calls that nobody waits for.
_SOCKET_SECONDS: Final = 1.0
# A request uses a connection for a millisecond, so 16 connections carry thousands of requests a second.
_CONNECTIONS: Final = 16


class RedisContents:
    """`ContentCache` on a Redis server, in front of an index. Belongs to one event loop."""

    def __init__(self, settings: RedisSettings, index: Index) -> None:
        self._index = index
        self._prefix = settings.prefix
        self._ttl_ms = round(settings.content_days * DAY_MS) or None
        self._redis: Any = connect(settings, socket_seconds=_SOCKET_SECONDS, connections=_CONNECTIONS)

    async def get(self, sha256: str) -> ContentRow | None:
        """See `ContentCache`."""
        with redis_errors(self._redis):
            value: bytes | None = await self._redis.get(self._key(sha256))
        row = decode_row(value)
        if row is not None:
            return row
        prediction = await self._index.content(sha256)
        return row_of(prediction) if prediction is not None else None

    async def put(self, sha256: str, row: ContentRow) -> None:
        """See `ContentCache`."""
        with redis_errors(self._redis):
            await self._redis.set(self._key(sha256), encode_row(row), px=self._ttl_ms)

    def _key(self, sha256: str) -> str:
        return f"{self._prefix}r:{{{sha256}}}"

    async def close(self) -> None:
        """Release connections; the index stays open."""
        await self._redis.aclose()
