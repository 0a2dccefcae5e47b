"""Moderation queue in Redis: one sorted set by age for each action and weight.

The priority of an image is weight × age. The order of images with the same weight never changes, so only the oldest
image of each weight can be next: at most some hundreds of heads are compared. The result is exact, and the cost does
not depend on the length of the queue.

    <prefix>{queue}:places                 hash: image → action, weight, since (ms), flag id
    <prefix>{queue}:at:<action>:<weight>   sorted set by since: images without a lease
    <prefix>{queue}:heads                  set: <action>:<weight> of sorted sets that are not empty
    <prefix>{queue}:leases                 hash: image → moderator, lease id; :expiry, sorted set by end of lease
    <prefix>{queue}:of:<moderator>         set of images that the moderator has leased
    <prefix>{queue}:skipped:<moderator>    sorted set: skipped images, by end of the skip

All keys share one hash tag, so each script is atomic on a cluster too.
"""

from __future__ import annotations

import secrets
from collections.abc import Collection, Sequence
from typing import Any, Final

from app.domain.moderation import Waiting
from app.ports.clock import Clock
from app.ports.index import Image
from app.ports.moderation import Lease, QueueCounts
from app.settings import ModerationSettings, RedisSettings
from app.systems.redis.client import connect, redis_errors
from app.systems.redis.lua import lua

_MS: Final = 1000
_MS_PER_HOUR: Final = 3_600_000
_SCRIPTS: Final = ("put", "lease", "touch", "skip", "take", "ahead", "counts")


class RedisQueue:
    """`ModerationQueue` on a Redis server."""

    def __init__(self, redis: RedisSettings, moderation: ModerationSettings, clock: Clock) -> None:
        self._redis: Any = connect(redis)
        self._base = redis.prefix + "{queue}:"
        self._clock = clock
        self._lease_ms = round(moderation.lease_seconds * _MS)
        self._skip_ms = max(1, round(moderation.skip_hours * _MS_PER_HOUR))
        self._scripts = {name: self._redis.register_script(lua(__file__, "queue", name)) for name in _SCRIPTS}

    async def _run(self, script: str, *arguments: object) -> Any:
        with redis_errors(self._redis):
            return await self._scripts[script](keys=[self._base], args=arguments)

    async def put(self, states: Sequence[tuple[Image, Waiting | None]]) -> None:
        """See `ModerationQueue`."""
        for image, waiting in states:
            await self._run("put", _member(image), "" if waiting is None else _place(waiting), "")

    async def withdraw(self, waiting: Waiting) -> None:
        """See `ModerationQueue`."""
        await self._run("put", _member((waiting.bucket, waiting.key)), "", _place(waiting))

    async def lease(self, moderator: str, count: int, actions: Collection[str]) -> Sequence[Lease]:
        """See `ModerationQueue`."""
        new = secrets.token_hex(8)
        rows = await self._run("lease", self._clock.now_ms(), moderator, self._lease_ms, count, new, *actions)
        return [
            Lease(lease.decode(), _waiting(image, place), moderator, int(float(ends)))
            for image, place, lease, ends in rows
        ]

    async def renew(self, moderator: str, lease_ids: Collection[str]) -> Sequence[str]:
        """See `ModerationQueue`."""
        kept = await self._run("touch", self._clock.now_ms(), moderator, self._lease_ms, *lease_ids)
        return [lease.decode() for lease in kept]

    async def release(self, moderator: str, lease_ids: Collection[str]) -> None:
        """See `ModerationQueue`."""
        await self._run("touch", self._clock.now_ms(), moderator, "", *lease_ids)

    async def skip(self, moderator: str, image: Image) -> None:
        """See `ModerationQueue`."""
        await self._run("skip", self._clock.now_ms(), moderator, _member(image), self._skip_ms)

    async def take(self, moderator: str, waiting: Waiting) -> Lease | None:
        """See `ModerationQueue`."""
        member = _member((waiting.bucket, waiting.key))
        new = secrets.token_hex(8) + "-0"
        row = await self._run("take", self._clock.now_ms(), moderator, member, _place(waiting), self._lease_ms, new)
        return None if row is None else Lease(row[0].decode(), waiting, moderator, int(float(row[1])))

    async def ahead(self, limit: int, actions: Collection[str]) -> Sequence[tuple[Waiting, str]]:
        """See `ModerationQueue`."""
        rows = await self._run("ahead", self._clock.now_ms(), limit, *actions)
        return [(_waiting(image, place), holder.decode()) for image, place, holder in rows]

    async def counts(self) -> QueueCounts:
        """See `ModerationQueue`."""
        leased, oldest, *pairs = await self._run("counts", self._clock.now_ms())
        by_action = {pairs[at].decode(): int(pairs[at + 1]) for at in range(0, len(pairs), 2)}
        return QueueCounts(by_action, int(leased), int(float(oldest)) if oldest else None)

    async def close(self) -> None:
        """Release connections."""
        await self._redis.aclose()


def _member(image: Image) -> str:
    # A bucket's name contains no slash, so the first slash separates it from the key.
    return f"{image[0]}/{image[1]}"


def _place(waiting: Waiting) -> str:
    return f"{waiting.action}\t{waiting.weight}\t{waiting.since_ms}\t{waiting.flag_id}"


def _waiting(image: bytes, place: bytes) -> Waiting:
    bucket, _, key = image.decode().partition("/")
    action, weight, since_ms, flag_id = place.decode().split("\t", 3)
    return Waiting(bucket, key, flag_id, action, int(weight), int(since_ms))
