"""The memory twin of the index: the same rule of order, no expiry."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from app.domain.standing import (
    Standing,
    comes_after,
    content_standing,
    other_counts,
    removes_one_version,
    replaces,
    same_upload,
    standing_of,
)
from app.errors import RedisUnavailable
from app.ports.index import Image, ImageHistory, IndexedImage, IndexEntry, PendingUpload
from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved, ImageTask, ModerationDecision

# Bucket, key, and whether by the other reading of the event's key.
_Image = tuple[str, str, bool]


class MemoryIndex:
    """An `Index` and an `ImageWatch` in dictionaries. `available` set to False: answers as a Redis that is away."""

    def __init__(self, history: int = 50) -> None:
        self.available = True
        self.batches: list[int] = []
        self._history = history
        self._images: dict[_Image, tuple[Standing, ImagePrediction | None]] = {}
        self._flags: dict[_Image, tuple[Standing, FlaggedImage]] = {}
        self._contents: dict[str, tuple[Standing, ImagePrediction]] = {}
        self._earlier: dict[Image, dict[tuple[int, str], ImagePrediction]] = {}
        self._pending: dict[Image, Standing] = {}
        self._decisions: dict[Image, dict[tuple[int, str], ModerationDecision]] = {}
        self._erased: set[tuple[str, str, str]] = set()
        self._watching: dict[Image, set[asyncio.Event]] = {}

    async def apply(self, entries: Sequence[IndexEntry]) -> Sequence[Image]:
        """Apply `entries`; see `Index`."""
        await asyncio.sleep(0)  # as a round trip would, this lets others run
        self._check()
        self.batches.append(len(entries))
        touched: dict[Image, None] = {}
        for entry in entries:
            record = entry.record
            standing = standing_of(record)
            image = (record.bucket, record.key, standing.other_reading)
            name = (record.bucket, record.key)
            flagged = image in self._flags
            match record:
                case ImagePrediction():
                    stored = self._put_outcome(image, standing, dataclasses.replace(record, previous=()))
                    flagged = flagged and stored
                case FlaggedImage():
                    held = self._flags.get(image)
                    if not self._is_erased(image, standing) and (held is None or replaces(standing, held[0])):
                        self._flags[image] = (standing, record)
                    flagged = True
                case ImageTask():
                    self._await(name, standing)
                    flagged = False
                case ModerationDecision():
                    kept = self._decisions.setdefault(name, {})
                    kept[record.decided_at_ms, record.decision_id] = record
                    flagged = True
                case ImageRemoved():
                    self._remove(image, standing, record)
            if flagged:
                touched[name] = None
            for event in self._watching.get(name, ()):
                event.set()
        return tuple(touched)

    def _put_outcome(self, image: _Image, standing: Standing, prediction: ImagePrediction) -> bool:
        if prediction.sha256:
            of_content = content_standing(prediction)
            known = self._contents.get(prediction.sha256)
            if known is None or replaces(of_content, known[0]):
                self._contents[prediction.sha256] = (of_content, prediction)
        self._no_longer_pending(image, standing)
        if self._is_erased(image, standing):
            return False
        held = self._images.get(image)
        if held is not None and not replaces(standing, held[0]):
            self._keep(image, standing, prediction)
            return False
        if held is not None and held[1] is not None and held[0] != standing:
            self._keep(image, held[0], held[1])
        self._images[image] = (standing, prediction)
        return True

    def _keep(self, image: _Image, standing: Standing, prediction: ImagePrediction) -> None:
        kept = self._earlier.setdefault(image[:2], {})
        kept[standing.decided_at_ms, standing.id] = prediction
        for old in sorted(kept)[: max(0, len(kept) - self._history)]:
            del kept[old]

    def _await(self, image: Image, standing: Standing) -> None:
        if self._is_erased((*image, False), standing):
            return
        known = [held[0] for reading in (False, True) if (held := self._images.get((*image, reading)))]
        if any(not comes_after(standing, one) for one in known):
            return
        awaited = self._pending.get(image)
        if awaited is None or not comes_after(awaited, standing):
            self._pending[image] = standing

    def _remove(self, image: _Image, standing: Standing, removal: ImageRemoved) -> None:
        if removes_one_version(removal):
            self._erased.add((removal.bucket, removal.key, standing.version_id))
            awaited = self._pending.get(image[:2])
            if awaited is not None and awaited.version_id == standing.version_id:
                del self._pending[image[:2]]
            kept = self._earlier.get(image[:2], {})
            for place in [place for place, one in kept.items() if (one.version_id or "") == standing.version_id]:
                del kept[place]
            # A version's id belongs to one object, by whatever reading its outcome came.
            for reading in (False, True):
                self._erase((removal.bucket, removal.key, reading), standing.version_id)
            return
        held = self._images.get(image)
        flag = self._flags.get(image)
        if flag is not None and replaces(standing, flag[0]):
            del self._flags[image]
        self._no_longer_pending(image, standing)
        if held is None or replaces(standing, held[0]):
            if held is not None and held[1] is not None:
                self._keep(image, held[0], held[1])
            self._images[image] = (standing, None)

    def _no_longer_pending(self, image: _Image, standing: Standing) -> None:
        awaited = self._pending.get(image[:2])
        if awaited is not None and not comes_after(awaited, standing):
            del self._pending[image[:2]]

    def _erase(self, image: _Image, version_id: str) -> None:
        held = self._images.get(image)
        if held is not None and held[1] is not None and held[0].version_id == version_id:
            del self._images[image]
            self._flags.pop(image, None)

    def _is_erased(self, image: _Image, standing: Standing) -> bool:
        return bool(standing.version_id) and (image[0], image[1], standing.version_id) in self._erased

    async def image(self, bucket: str, key: str) -> IndexedImage | None:
        """Return what is known of bucket/key; see `Index`."""
        await asyncio.sleep(0)
        self._check()
        first, other = (self._images.get((bucket, key, reading)) for reading in (False, True))
        by_other = other_counts(first and first[0], other and other[0])
        held = other if by_other else first
        awaited = self._pending.get((bucket, key))
        pending = None if awaited is None else PendingUpload(awaited.id, awaited.decided_at_ms)
        if held is None:
            return None if pending is None else IndexedImage(bucket, key, None, None, None, None, pending)
        standing, prediction = held
        if awaited is not None and not comes_after(awaited, standing):
            pending = None
        if prediction is None:
            return IndexedImage(bucket, key, None, None, standing.event_time_ms, None, pending)
        flag = self._flags.get((bucket, key, by_other))
        current = flag[1] if flag is not None and same_upload(flag[0], standing) else None
        return IndexedImage(bucket, key, prediction, current, None, self._decision(bucket, key, standing), pending)

    def _decision(self, bucket: str, key: str, standing: Standing) -> ModerationDecision | None:
        latest: ModerationDecision | None = None
        for decision in self._decisions.get((bucket, key), {}).values():
            if latest is None or replaces(standing_of(decision), standing_of(latest)):
                latest = decision
        return latest if latest is not None and same_upload(standing_of(latest), standing) else None

    async def images(self, images: Sequence[Image]) -> Sequence[IndexedImage | None]:
        """Return what is known of each; see `Index`."""
        return [await self.image(bucket, key) for bucket, key in images]

    async def history(self, bucket: str, key: str) -> ImageHistory:
        """Return what is kept; see `Index`."""
        self._check()
        found = dict(self._earlier.get((bucket, key), {}))
        for reading in (False, True):
            held = self._images.get((bucket, key, reading))
            if held is not None and held[1] is not None:
                found[held[0].decided_at_ms, held[0].id] = held[1]
        decisions = self._decisions.get((bucket, key), {})
        kept = sorted(decisions, reverse=True)[: self._history]
        return ImageHistory(
            tuple(found[place] for place in sorted(found, reverse=True)), tuple(decisions[place] for place in kept)
        )

    async def content(self, sha256: str) -> ImagePrediction | None:
        """Return the latest outcome of these bytes; see `Index`."""
        self._check()
        held = self._contents.get(sha256)
        return None if held is None else held[1]

    @asynccontextmanager
    async def watching(self, bucket: str, key: str) -> AsyncIterator[asyncio.Event]:
        """See `ImageWatch`."""
        event = asyncio.Event()
        waiting = self._watching.setdefault((bucket, key), set())
        waiting.add(event)
        try:
            yield event
        finally:
            waiting.discard(event)

    async def close(self) -> None:
        """Nothing is held open."""

    def _check(self) -> None:
        if not self.available:
            raise RedisUnavailable("the memory index was made unavailable")
