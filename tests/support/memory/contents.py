"""The memory twin of the shared cache of contents: no expiry, the same fallback to an index."""

from __future__ import annotations

import asyncio

from app.domain.contents import ContentRow, decode_row, encode_row, row_of
from app.errors import RedisUnavailable
from app.ports.index import Index


class MemoryContents:
    """A `ContentCache` in a dictionary. `available` set to False makes it answer as a Redis that is away; while `gate`
    is there and not set it answers nothing.
    """

    def __init__(self, index: Index) -> None:
        self.available = True
        self.gate: asyncio.Event | None = None
        self.asked: list[str] = []
        self._index = index
        self._rows: dict[str, bytes] = {}

    async def get(self, sha256: str) -> ContentRow | None:
        """Return what is known of these bytes; see `ContentCache`."""
        self.asked.append(sha256)
        await self._answer()
        row = decode_row(self._rows.get(sha256))
        if row is not None:
            return row
        prediction = await self._index.content(sha256)
        return row_of(prediction) if prediction is not None else None

    async def put(self, sha256: str, row: ContentRow) -> None:
        """Keep `row`; see `ContentCache`."""
        await self._answer()
        self._rows[sha256] = encode_row(row)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.gate is not None:
            await self.gate.wait()
        if not self.available:
            raise RedisUnavailable("the memory cache was made unavailable")

    async def close(self) -> None:
        """Nothing is held open."""
