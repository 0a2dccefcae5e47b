"""The memory twin of the index: the same rule of order, no expiry."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence

from app.domain.standing import (
    Standing,
    content_standing,
    other_counts,
    removes_one_version,
    replaces,
    same_upload,
    standing_of,
)
from app.errors import IndexUnavailable
from app.ports import IndexedImage, IndexEntry
from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved

# Bucket, key, and whether by the other reading of the event's key.
_Image = tuple[str, str, bool]


class MemoryIndex:
    """An `Index` in dictionaries. `available` set to False makes it answer as a Redis that is away."""

    def __init__(self) -> None:
        self.available = True
        self.batches: list[int] = []
        self._images: dict[_Image, tuple[Standing, ImagePrediction | None]] = {}
        self._flags: dict[_Image, tuple[Standing, FlaggedImage]] = {}
        self._contents: dict[str, tuple[Standing, ImagePrediction]] = {}
        self._erased: set[tuple[str, str, str]] = set()

    async def apply(self, entries: Sequence[IndexEntry]) -> None:
        """Apply `entries`; see `Index`."""
        await asyncio.sleep(0)  # as a round trip would, this lets others run
        self._check()
        self.batches.append(len(entries))
        for entry in entries:
            record = entry.record
            standing = standing_of(record)
            image = (record.bucket, record.key, standing.other_reading)
            match record:
                case ImagePrediction():
                    self._put_outcome(image, standing, dataclasses.replace(record, previous=()))
                case FlaggedImage():
                    held = self._flags.get(image)
                    if not self._is_erased(image, standing) and (held is None or replaces(standing, held[0])):
                        self._flags[image] = (standing, record)
                case ImageRemoved():
                    self._remove(image, standing, record)

    def _put_outcome(self, image: _Image, standing: Standing, prediction: ImagePrediction) -> None:
        held = self._images.get(image)
        if not self._is_erased(image, standing) and (held is None or replaces(standing, held[0])):
            self._images[image] = (standing, prediction)
        if prediction.sha256:
            of_content = content_standing(prediction)
            known = self._contents.get(prediction.sha256)
            if known is None or replaces(of_content, known[0]):
                self._contents[prediction.sha256] = (of_content, prediction)

    def _remove(self, image: _Image, standing: Standing, removal: ImageRemoved) -> None:
        if removes_one_version(removal):
            self._erased.add((removal.bucket, removal.key, standing.version_id))
            # A version's id belongs to one object, by whatever reading its outcome came.
            for reading in (False, True):
                self._erase((removal.bucket, removal.key, reading), standing.version_id)
            return
        held = self._images.get(image)
        flag = self._flags.get(image)
        if flag is not None and replaces(standing, flag[0]):
            del self._flags[image]
        if held is None or replaces(standing, held[0]):
            self._images[image] = (standing, None)

    def _erase(self, image: _Image, version_id: str) -> None:
        held = self._images.get(image)
        if held is not None and held[1] is not None and held[0].version_id == version_id:
            del self._images[image]
            self._flags.pop(image, None)

    def _is_erased(self, image: _Image, standing: Standing) -> bool:
        return bool(standing.version_id) and (image[0], image[1], standing.version_id) in self._erased

    async def image(self, bucket: str, key: str) -> IndexedImage | None:
        """Return what is known of bucket/key; see `Index`."""
        self._check()
        first, other = (self._images.get((bucket, key, reading)) for reading in (False, True))
        by_other = other_counts(first and first[0], other and other[0])
        held = other if by_other else first
        if held is None:
            return None
        standing, prediction = held
        if prediction is None:
            return IndexedImage(bucket, key, None, None, standing.event_time_ms)
        flag = self._flags.get((bucket, key, by_other))
        current = flag[1] if flag is not None and same_upload(flag[0], standing) else None
        return IndexedImage(bucket, key, prediction, current, None)

    async def content(self, sha256: str) -> ImagePrediction | None:
        """Return the latest outcome of these bytes; see `Index`."""
        self._check()
        held = self._contents.get(sha256)
        return None if held is None else held[1]

    async def close(self) -> None:
        """Nothing is held open."""

    def _check(self) -> None:
        if not self.available:
            raise IndexUnavailable("the memory index was made unavailable")
