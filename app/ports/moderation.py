"""The queue of images that wait for a moderator."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from app.domain.moderation import Waiting
from app.ports.index import Image


@dataclass(frozen=True, slots=True)
class Lease:
    """An image that one moderator has for himself until `expires_ms`."""

    lease_id: str
    waiting: Waiting
    moderator: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How many wait, leased ones included, by action; how many are leased; since when the oldest waits."""

    by_action: Mapping[str, int]
    leased: int
    oldest_ms: int | None


class ModerationQueue(Protocol):
    """Images in the order of weight × age, each shown to one moderator at a time. All raise IndexUnavailable.

    What the index knows decides which images wait (app/domain/moderation.py); this is their order, and who has which.
    """

    async def put(self, states: Sequence[tuple[Image, Waiting | None]]) -> None:
        """Make each image wait, or wait no more. What is leased stays leased. Repeating it changes nothing."""
        ...

    async def withdraw(self, waiting: Waiting) -> None:
        """Let an image wait no more, unless it has another place by now: another flag came meanwhile."""
        ...

    async def lease(self, moderator: str, count: int, actions: Collection[str]) -> Sequence[Lease]:
        """Return up to `count` images for `moderator`: those that he has already, renewed, then the next in order."""
        ...

    async def renew(self, moderator: str, lease_ids: Collection[str]) -> Sequence[str]:
        """Prolong leases; return those that are still his."""
        ...

    async def release(self, moderator: str, lease_ids: Collection[str]) -> None:
        """Give images back, to their places."""
        ...

    async def skip(self, moderator: str, image: Image) -> None:
        """Give an image back that this moderator does not want to see again for some time."""
        ...

    async def take(self, moderator: str, waiting: Waiting) -> Lease | None:
        """Lease this very image; None where another moderator has it. It waits from now on if it did not."""
        ...

    async def ahead(self, limit: int, actions: Collection[str]) -> Sequence[tuple[Waiting, str]]:
        """Return what waits, in order, and who has it leased (empty: nobody)."""
        ...

    async def counts(self) -> QueueCounts:
        """Return how many wait."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...
