"""The archive of raw records: chains of files, one for each partition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.archive import FileRange
from app.ports.records import SourceRecord


class Archive(Protocol):
    """Chains of files, one for each topic (named as Kafka knows it) and partition; see app/domain/archive.py.

    All methods raise StoreUnavailable, BucketUnavailable or ObjectUnavailable, after which they may be called again,
    and ArchiveBroken.
    """

    async def end(self, topic: str, partition: int, position: int) -> int:
        """Return where the chain ends (0 where there is none). Quick where that is not far from `position`."""
        ...

    async def add(self, file: FileRange, records: Sequence[SourceRecord]) -> AddedFile:
        """Store `records` as the chain's next file, unless another stands there; return which one stands, durable."""
        ...


@dataclass(frozen=True, slots=True)
class AddedFile:
    """The file that stands: ours, of so many bytes, or a rival's."""

    range: FileRange
    ours: bool
    size_bytes: int
