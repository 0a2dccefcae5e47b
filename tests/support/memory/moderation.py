"""The memory twins of the moderators' queue and of the log of decisions."""

from __future__ import annotations

import secrets
from collections.abc import Collection, Mapping, Sequence

from app.domain.moderation import SKIP, Waiting
from app.errors import RedisUnavailable
from app.moderation.ports import ClaimedDecision
from app.ports.clock import Clock
from app.ports.index import Image
from app.ports.moderation import Lease, QueueCounts
from app.settings import ModerationSettings
from app.topics import DAY_MS
from schemas.records import ModerationDecision


class MemoryModerationQueue:
    """A `ModerationQueue` in dictionaries. `available` set to False makes it answer as a Redis that is away."""

    def __init__(self, settings: ModerationSettings, clock: Clock) -> None:
        self.available = True
        self._lease_ms = round(settings.lease_seconds * 1000)
        self._skip_ms = round(settings.skip_hours * 3_600_000)
        self._clock = clock
        self._places: dict[Image, Waiting] = {}
        self._leases: dict[Image, Lease] = {}
        self._skipped: dict[tuple[str, Image], int] = {}

    async def put(self, states: Sequence[tuple[Image, Waiting | None]]) -> None:
        """See `ModerationQueue`."""
        self._check()
        for image, waiting in states:
            if waiting is None:
                self._places.pop(image, None)
                self._leases.pop(image, None)
            else:
                self._places[image] = waiting

    async def withdraw(self, waiting: Waiting) -> None:
        """See `ModerationQueue`."""
        image = (waiting.bucket, waiting.key)
        if self._places.get(image) == waiting:
            await self.put([(image, None)])

    async def lease(self, moderator: str, count: int, actions: Collection[str]) -> Sequence[Lease]:
        """See `ModerationQueue`."""
        now = self._check()
        mine = [
            image
            for image, lease in self._leases.items()
            if lease.moderator == moderator and image in self._places and self._places[image].action in actions
        ]
        free = [
            waiting
            for image, waiting in self._places.items()
            if image not in self._leases
            and waiting.action in actions
            and self._skipped.get((moderator, image), 0) <= now
        ]
        free.sort(key=lambda one: -one.weight * (now - one.since_ms + 1000))
        chosen = [*mine, *((one.bucket, one.key) for one in free)][:count]
        return [self._grant(image, moderator, now) for image in chosen]

    def _grant(self, image: Image, moderator: str, now: int) -> Lease:
        held = self._leases.get(image)
        lease_id = held.lease_id if held is not None else secrets.token_hex(8)
        self._leases[image] = Lease(lease_id, self._places[image], moderator, now + self._lease_ms)
        return self._leases[image]

    async def renew(self, moderator: str, lease_ids: Collection[str]) -> Sequence[str]:
        """See `ModerationQueue`."""
        now = self._check()
        kept = [
            image
            for image, lease in self._leases.items()
            if lease.moderator == moderator and lease.lease_id in lease_ids
        ]
        return [self._grant(image, moderator, now).lease_id for image in kept]

    async def release(self, moderator: str, lease_ids: Collection[str]) -> None:
        """See `ModerationQueue`."""
        self._check()
        for image, lease in list(self._leases.items()):
            if lease.moderator == moderator and lease.lease_id in lease_ids:
                del self._leases[image]

    async def skip(self, moderator: str, image: Image) -> None:
        """See `ModerationQueue`."""
        now = self._check()
        self._skipped[moderator, image] = now + self._skip_ms
        lease = self._leases.get(image)
        if lease is not None and lease.moderator == moderator:
            del self._leases[image]

    async def take(self, moderator: str, waiting: Waiting) -> Lease | None:
        """See `ModerationQueue`."""
        now = self._check()
        image = (waiting.bucket, waiting.key)
        lease = self._leases.get(image)
        if lease is not None and lease.moderator != moderator:
            return None
        self._places[image] = waiting
        self._skipped.pop((moderator, image), None)
        return self._grant(image, moderator, now)

    async def ahead(self, limit: int, actions: Collection[str]) -> Sequence[tuple[Waiting, str]]:
        """See `ModerationQueue`."""
        now = self._check()
        found = [one for one in self._places.values() if one.action in actions]
        found.sort(key=lambda one: (-one.weight * (now - one.since_ms + 1000), f"{one.bucket}/{one.key}"))
        held = {image: lease.moderator for image, lease in self._leases.items()}
        return [(one, held.get((one.bucket, one.key), "")) for one in found[:limit]]

    async def counts(self) -> QueueCounts:
        """See `ModerationQueue`."""
        self._check()
        by_action: dict[str, int] = {}
        for one in self._places.values():
            by_action[one.action] = by_action.get(one.action, 0) + 1
        oldest = min((one.since_ms for one in self._places.values()), default=None)
        return QueueCounts(by_action, len(self._leases), oldest)

    async def close(self) -> None:
        """Nothing is held open."""

    def _check(self) -> int:
        if not self.available:
            raise RedisUnavailable("the memory queue was made unavailable")
        now = self._clock.now_ms()
        for image in [image for image, lease in self._leases.items() if lease.expires_ms <= now]:
            del self._leases[image]
        return now


class MemoryDecisionLog:
    """A `DecisionLog` in dictionaries."""

    def __init__(self, clock: Clock) -> None:
        self.available = True
        self._clock = clock
        self._claims: dict[str, ClaimedDecision] = {}
        self._taken_ms: dict[str, int] = {}
        self._counts: dict[tuple[int, str, str], int] = {}

    async def claim(self, decision_id: str, request: str, takeover_ms: int) -> ClaimedDecision:
        """See `DecisionLog`."""
        now = self._check()
        held = self._claims.get(decision_id)
        if held is None:
            self._claims[decision_id] = ClaimedDecision(False, False, request, now, None)
            self._taken_ms[decision_id] = now
            return ClaimedDecision(True, False, request, now, None)
        if held.wire is None and now - self._taken_ms[decision_id] >= takeover_ms:
            self._taken_ms[decision_id] = now
            return ClaimedDecision(False, True, held.request, held.since_ms, None)
        return held

    async def made(self, decision: ModerationDecision, wire: bytes, reversed_kind: str) -> None:
        """See `DecisionLog`."""
        now = self._check()
        held = self._claims.get(decision.decision_id)
        if held is not None and held.wire is not None:
            return
        request, since_ms = (held.request, held.since_ms) if held is not None else ("", now)
        self._claims[decision.decision_id] = ClaimedDecision(False, False, request, since_ms, wire)
        if decision.decision != SKIP or decision.reverses is None:
            self._count(now, decision.moderator, decision.decision, 1)
        if reversed_kind:
            self._count(now, decision.moderator, reversed_kind, -1)

    def _count(self, now: int, moderator: str, kind: str, by: int) -> None:
        place = (now // DAY_MS, moderator, kind)
        self._counts[place] = self._counts.get(place, 0) + by

    async def abandon(self, decision_id: str) -> None:
        """See `DecisionLog`."""
        self._check()
        held = self._claims.get(decision_id)
        if held is not None and held.wire is None:
            del self._claims[decision_id]

    async def today(self) -> Mapping[tuple[str, str], int]:
        """See `DecisionLog`."""
        day = self._check() // DAY_MS
        return {(moderator, kind): count for (on, moderator, kind), count in self._counts.items() if on == day}

    def _check(self) -> int:
        if not self.available:
            raise RedisUnavailable("the memory log of decisions was made unavailable")
        return self._clock.now_ms()
