"""The queue of images that wait for a moderator."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.moderation import Waiting
from app.ports.index import Image


@dataclass(frozen=True, slots=True)
class Lease:
    """An image that one moderator holds until `expires_ms`."""

    lease_id: str
    waiting: Waiting
    moderator: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Numbers of waiting images by action (leased ones included) and of leases, and the time of the oldest flag."""

    by_action: Mapping[str, int]
    leased: int
    oldest_ms: int | None


class ModerationQueue(Protocol):
    """Images in the order of weight × age, each leased to one moderator at a time. All raise RedisUnavailable.

    The index decides which images wait (app/domain/moderation.py). The queue holds their order and their leases.
    """

    async def put(self, states: Sequence[tuple[Image, Waiting | None]]) -> None:
        """Add each image, or remove it (None). Leases stay as they are. Idempotent."""
        ...

    async def withdraw(self, waiting: Waiting) -> None:
        """Remove an image, unless a newer flag has given it another place."""
        ...

    async def lease(self, moderator: str, count: int, actions: Collection[str]) -> Sequence[Lease]:
        """Lease up to `count` images: first those that `moderator` holds already (renewed), then the next in order."""
        ...

    async def renew(self, moderator: str, lease_ids: Collection[str]) -> Sequence[str]:
        """Prolong leases; return the ids of those that `moderator` still holds."""
        ...

    async def release(self, moderator: str, lease_ids: Collection[str]) -> None:
        """Return leased images to their places in the queue."""
        ...

    async def skip(self, moderator: str, image: Image) -> None:
        """Return a leased image, and do not lease it to this moderator again for some time."""
        ...

    async def take(self, moderator: str, waiting: Waiting) -> Lease | None:
        """Lease this image, added to the queue if it is not there; None if another moderator holds it."""
        ...

    async def ahead(self, limit: int, actions: Collection[str]) -> Sequence[tuple[Waiting, str]]:
        """Return waiting images in order, each with the moderator who holds it (empty: none)."""
        ...

    async def counts(self) -> QueueCounts:
        """Return the numbers of waiting images."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
