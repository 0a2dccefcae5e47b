"""Ports of the query service."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from app.domain.contents import ContentRow


class ContentCache(Protocol):
    """Scores of contents, shared by all processes. Every wait is bounded.

    A cache: a row that is lost or does not arrive in time is computed again.
    """

    async def get(self, sha256: str) -> ContentRow | None:
        """Return the row of these bytes, or None. Raises RedisUnavailable."""
        ...

    async def put(self, sha256: str, row: ContentRow) -> None:
        """Replace the row of these bytes. Raises RedisUnavailable."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class ImageWatch(Protocol):
    """Notifications of changes of an image in the index."""

    def watching(self, bucket: str, key: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """Yield an event that is set at each change from that moment on; the caller clears it.

        A change may be missed while Redis is unavailable, so the caller also polls.
        """
        ...
