"""Small upright JPEGs of stored images, for people who decide about them.

Bytes come from the object store each time they are needed and pass the limits of the stream's decoder; what a browser
gets is always re-encoded, so nothing of a hostile file reaches it, and no metadata of anybody's photograph.
"""

from __future__ import annotations

import asyncio
import io
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

from app.domain.images import Rejection, RejectReason
from app.domain.outcomes import missing_reason
from app.errors import BadReference, Overloaded
from app.inference.budget import Budget, Ticket
from app.inference.decoding.decoder import Decoder
from app.inference.engine import image_limits
from app.metrics import Meters
from app.ports import Clock, ObjectMissing, ObjectRef, ObjectStore
from app.settings import Settings

SIZES: Final = (32, 512)
# A moderator looks at one picture in a second or two; two threads decode tens of photographs in that time.
_THREADS: Final = 2
# Previews in the making, waiting ones among them; each holds one object, 32 MiB at most.
_MOST_IN_HAND: Final = 16
_RETRY_SECONDS: Final = 1
# 512 pixels weigh about 40 KB: some 800 of them.
_KEPT_BYTES: Final = 32 * 1024 * 1024
_QUALITY: Final = 82


@dataclass(frozen=True, slots=True)
class Gone:
    """The bytes that were scored are no longer there."""

    detail: str


Preview = bytes | Rejection | Gone
_Key = tuple[str, str, str | None, str | None, int]


@dataclass(slots=True, eq=False)
class _Making:
    """One preview in the making and how many wait for it."""

    task: asyncio.Task[Preview]
    waiting: int = field(default=0)


class Previews:
    """Makes previews, equal ones once. Belongs to one event loop; holds threads until `close`."""

    def __init__(self, store: ObjectStore, settings: Settings, clock: Clock, meters: Meters) -> None:
        self._store = store
        self._limits = settings.limits
        self._seconds = settings.api.preview_seconds
        self._clock = clock
        self._meters = meters
        # Pictures may shrink while decoding as long as the largest preview can be made of them.
        self._decoder = Decoder(image_limits(settings.limits), SIZES[1], settings.limits.decode_seconds)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="preview")
        self._threads = Budget(_THREADS)
        self._making: dict[_Key, _Making] = {}
        self._kept: OrderedDict[_Key, tuple[float, bytes]] = OrderedDict()
        self._kept_bytes = 0

    async def preview(self, ref: ObjectRef, size: int) -> Preview:
        """Return a JPEG of exactly that version or ETag, no side longer than `size` pixels, or why there is none.

        Raises Overloaded, and ObjectUnavailable, BucketUnavailable or StoreUnavailable. Cancellable.
        """
        key = (ref.bucket, ref.key, ref.version_id, ref.etag, size)
        answer = "failed"
        try:
            found, answer = await self._preview(key, ref, size)
            return found
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
                raise Overloaded(f"{len(self._making)} previews are in the making", _RETRY_SECONDS)
            making = self._making[key] = _Making(asyncio.create_task(self._make(key, ref, size)))
        making.waiting += 1
        try:
            found = await asyncio.shield(making.task)
        finally:
            making.waiting -= 1
            if making.waiting == 0:
                # Forgotten before it is cancelled: who comes next must not wait for something that was given up.
                if self._making.get(key) is making:
                    del self._making[key]
                making.task.cancel()
        match found:
            case Gone():
                return found, "gone"
            case Rejection():
                return found, "rejected"
            case bytes():
                return found, "joined" if joined else "made"

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
        made = await self._in_thread(fetched.body, size)
        if isinstance(made, bytes):
            self._keep(key, made)
        return made

    async def _in_thread(self, content: bytes, size: int) -> bytes | Rejection:
        """Encode on a thread. One that passes the time limit works on, until limits end it, and keeps its place."""
        seconds = self._limits.decode_seconds
        try:
            async with asyncio.timeout(seconds):
                await self._threads.take(1, Ticket())
        except TimeoutError as error:
            raise Overloaded("all threads are busy with slow pictures", _RETRY_SECONDS) from error
        future = asyncio.get_running_loop().run_in_executor(self._pool, self._encode, content, size)
        future.add_done_callback(lambda _: self._threads.give(1))
        await asyncio.wait((future,), timeout=seconds)
        if not future.done():
            return Rejection(RejectReason.DECODE_TIMEOUT, f"not decoded within {seconds:g} s")
        return future.result()

    def _encode(self, content: bytes, size: int) -> bytes | Rejection:
        from PIL import Image

        decoded = self._decoder.decode(content)
        if isinstance(decoded, Rejection):
            return decoded
        # Made of bare pixels: nothing that the file said beside them can come along.
        image = Image.fromarray(decoded.picture.rgb)
        image.thumbnail((size, size))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=_QUALITY)
        return buffer.getvalue()

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
        """Give up what is in the making and release the threads; decoding under way is not waited for."""
        tasks = [making.task for making in self._making.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._pool.shutdown(wait=False, cancel_futures=True)
