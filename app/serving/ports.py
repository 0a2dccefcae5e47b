"""Ports of the query service."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from app.domain.contents import ContentRow


class ContentCache(Protocol):
    """What any process knows of a content, shared by all of them. Every wait is bounded.

    Nothing depends on it: what it loses, or does not answer, is computed again.
    """

    async def get(self, sha256: str) -> ContentRow | None:
        """Return what is known of these bytes, None for nothing. Raises IndexUnavailable."""
        ...

    async def put(self, sha256: str, row: ContentRow) -> None:
        """Keep `row` in place of what was kept of these bytes. Raises IndexUnavailable."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class ImageWatch(Protocol):
    """Tells when the index learns something of an image."""

    def watching(self, bucket: str, key: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """Yield an event that is set at each change from then on; the caller clears it.

        A change may be missed while Redis is away: look again now and then.
        """
        ...
