"""Previews: small upright JPEGs of stored images, for moderators.

The bytes are read from the object store for each preview and pass the limits of the stream's decoder. The browser
always gets a re-encoded picture: no bytes of a hostile file, and no metadata of a photograph.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from app.domain.images import Rejection
from app.domain.outcomes import missing_reason
from app.errors import BadReference, Overloaded
from app.inference.budget import Ticket
from app.inference.decoding.pool import Decoding
from app.inference.decoding.protocol import ThumbnailJob
from app.metrics import Meters
from app.ports.clock import Clock
from app.ports.objects import ObjectMissing, ObjectRef, ObjectStore
from app.settings import Settings

SIZES: Final = (32, 512)
# Previews in progress, waiting ones included; each holds one object of at most `max_bytes`.
_MOST_IN_HAND: Final = 16
_RETRY_SECONDS: Final = 1
# A preview of 512 pixels has about 40 KB, so this is about 800 of them.
_KEPT_BYTES: Final = 32 * 1024 * 1024
_QUALITY: Final = 82


@dataclass(frozen=True, slots=True)
class Gone:
    """Answer if the bytes that were scored are no longer in the store."""

    detail: str


Preview = bytes | Rejection | Gone
_Key = tuple[str, str, str | None, str | None, int]


@dataclass(slots=True, eq=False)
class _Making:
    """Preview in progress, and the number of its callers."""

    task: asyncio.Task[Preview]
    waiting: int = field(default=0)


class Previews:
    """Creator of previews; concurrent requests for the same preview share one. Belongs to one event loop."""

    def __init__(
        self, store: ObjectStore, decoding: Decoding, settings: Settings, clock: Clock, meters: Meters
    ) -> None:
        self._store = store
        self._decoding = decoding
        self._limits = settings.limits
        self._seconds = settings.api.preview_seconds
        self._clock = clock
        self._meters = meters
        self._making: dict[_Key, _Making] = {}
        self._kept: OrderedDict[_Key, tuple[float, bytes]] = OrderedDict()
        self._kept_bytes = 0

    async def preview(self, ref: ObjectRef, size: int) -> Preview:
        """Return a JPEG of exactly that version or ETag, no side longer than `size` pixels, or the reason for none.

        Raises Overloaded, and ObjectUnavailable, BucketUnavailable or StoreUnavailable. Cancellable.
        """
        key = (ref.bucket, ref.key, ref.version_id, ref.etag, size)
        answer = "failed"
        try:
            preview, answer = await self._preview(key, ref, size)
            return preview
        except Overloaded:
            answer = "refused"
            raise
        finally:
            self._meters.count("sightline_api_previews_total", answer=answer)

    async def _preview(self, key: _Key, ref: ObjectRef, size: int) -> tuple[Preview, str]:
        kept = self._find(key)
        if kept is not None:
            return kept, "kept"
        making = self._making.get(key)
        joined = making is not None
        if making is None:
            if len(self._making) >= _MOST_IN_HAND:
                raise Overloaded(f"{len(self._making)} previews are in progress", _RETRY_SECONDS)
            making = self._making[key] = _Making(asyncio.create_task(self._make(key, ref, size)))
        making.waiting += 1
        try:
            preview = await asyncio.shield(making.task)
        finally:
            making.waiting -= 1
            if making.waiting == 0:
                # Removed before it is cancelled, so that a later caller does not wait for it.
                if self._making.get(key) is making:
                    del self._making[key]
                making.task.cancel()
        match preview:
            case Gone():
                return preview, "gone"
            case Rejection():
                return preview, "rejected"
            case bytes():
                return preview, "joined" if joined else "made"

    async def _make(self, key: _Key, ref: ObjectRef, size: int) -> Preview:
        try:
            fetched = await self._store.fetch(ref, max_bytes=self._limits.max_bytes)
        except BadReference as error:
            return Gone(error.detail)
        if isinstance(fetched, ObjectMissing):
            reason = missing_reason(fetched.reason)
            return Gone(fetched.detail) if reason is None else Rejection(reason, fetched.detail)
        if fetched.superseded:
            return Gone("another object lies there, with another ETag")
        made = await self._encode(fetched.body, size)
        if isinstance(made, bytes):
            self._keep(key, made)
        return made

    async def _encode(self, content: bytes, size: int) -> bytes | Rejection:
        decoded = await self._decoding.run(content, ThumbnailJob(size, _QUALITY), Ticket())
        if not isinstance(decoded.result, bytes | Rejection):
            raise TypeError("a preview is a JPEG")
        return decoded.result

    def _find(self, key: _Key) -> bytes | None:
        kept = self._kept.get(key)
        if kept is None:
            return None
        until, content = kept
        if self._clock.monotonic() >= until:
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return content

    def _keep(self, key: _Key, content: bytes) -> None:
        if self._seconds <= 0:
            return
        self._drop(key)
        self._kept[key] = (self._clock.monotonic() + self._seconds, content)
        self._kept_bytes += len(content)
        while self._kept_bytes > _KEPT_BYTES:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: _Key) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._kept_bytes -= len(kept[1])

    async def close(self) -> None:
        """Cancel previews in progress. Does not wait for running decoders."""
        tasks = [making.task for making in self._making.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
