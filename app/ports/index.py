"""The index: the latest outcome of each image and of each content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved, ImageTask, ModerationDecision

IndexedRecord = ImagePrediction | ImageRemoved | FlaggedImage | ImageTask | ModerationDecision


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One fact for the index, with the bytes that it had on its topic (they are what the index keeps)."""

    record: IndexedRecord
    wire: bytes


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """An upload whose outcome is still to come; `since_ms` is when its event was read."""

    upload_id: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """What the index knows of one bucket/key.

    `prediction` is the latest outcome, None when the image was removed (`removed_at_ms` is then the removal's event
    time) or has none yet. `flag` is the latest decision of the policy on that very upload; a rescoring that changed
    nothing leaves it in force. `decision` is the latest that a person decided of that upload. `pending` is an upload
    later than all of them.
    """

    bucket: str
    key: str
    prediction: ImagePrediction | None
    flag: FlaggedImage | None
    removed_at_ms: int | None
    decision: ModerationDecision | None = None
    pending: PendingUpload | None = None


@dataclass(frozen=True, slots=True)
class ImageHistory:
    """Every outcome of one bucket/key that is kept, and every decision; newest first."""

    outcomes: tuple[ImagePrediction, ...]
    decisions: tuple[ModerationDecision, ...]


Image = tuple[str, str]


class Index(Protocol):
    """The latest outcome per image and per content. Every wait is bounded.

    Applying an entry twice, or entries in any order, ends in the same state (app/domain/standing.py is the order).
    """

    async def apply(self, entries: Sequence[IndexEntry]) -> Sequence[Image]:
        """Apply `entries` and return when all are stored: the images (bucket, key) whose flag may be another one.

        Raises RedisUnavailable; some may then be stored.
        """
        ...

    async def image(self, bucket: str, key: str) -> IndexedImage | None:
        """Return what is known of bucket/key, None for nothing. Raises RedisUnavailable."""
        ...

    async def images(self, images: Sequence[Image]) -> Sequence[IndexedImage | None]:
        """Return what is known of each, in their order, by one question. Raises RedisUnavailable."""
        ...

    async def history(self, bucket: str, key: str) -> ImageHistory:
        """Return what is kept of bucket/key, the latest outcome included. Raises RedisUnavailable."""
        ...

    async def content(self, sha256: str) -> ImagePrediction | None:
        """Return the latest outcome of these bytes under any key, None for nothing. Raises RedisUnavailable."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
