"""Recent decisions, and the counts of the day, in Redis.

<prefix>m:<decision id>               "<ms>,<ms>\\t<request digest>\\t" and, once it is published, the record
<prefix>decided:<day>                 hash: moderator, tab, kind → how many (UTC days)
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from app.domain.moderation import SKIP
from app.moderation.ports import ClaimedDecision
from app.ports.clock import Clock
from app.settings import RedisSettings
from app.systems.redis.client import connect, redis_errors
from app.systems.redis.lua import lua
from app.topics import DAY_MS
from schemas.records import ModerationDecision

# A request that is repeated a week later counts as new.
_CLAIM_MS: Final = 7 * DAY_MS
_COUNTS_MS: Final = 3 * DAY_MS


class RedisDecisionLog:
    """`DecisionLog` on a Redis server."""

    def __init__(self, settings: RedisSettings, clock: Clock) -> None:
        self._redis: Any = connect(settings)
        self._prefix = settings.prefix
        self._clock = clock
        self._claim = self._redis.register_script(lua(__file__, "decision_claim"))
        self._made = self._redis.register_script(lua(__file__, "decision_made"))
        self._abandon = self._redis.register_script(lua(__file__, "decision_abandon"))

    def _name(self, decision_id: str) -> str:
        return f"{self._prefix}m:{decision_id}"

    def _day(self) -> str:
        day = datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC).strftime("%Y%m%d")
        return f"{self._prefix}decided:{day}"

    async def claim(self, decision_id: str, request: str, takeover_ms: int) -> ClaimedDecision:
        """See `DecisionLog`."""
        now, digest = self._clock.now_ms(), hashlib.sha256(request.encode()).hexdigest()
        with redis_errors(self._redis):
            held, how = await self._claim(
                keys=[self._name(decision_id)], args=[f"{now},{now}\t{digest}\t", _CLAIM_MS, now, takeover_ms]
            )
        times, made_with, wire = held.split(b"\t", 2)
        same = request if made_with.decode() == digest else ""
        return ClaimedDecision(how == b"new", how == b"taken", same, int(times.split(b",")[0]), wire or None)

    async def made(self, decision: ModerationDecision, wire: bytes, reversed_kind: str) -> None:
        """See `DecisionLog`."""
        undo = decision.decision == SKIP and decision.reverses is not None
        counted = "" if undo else f"{decision.moderator}\t{decision.decision}"
        off = f"{decision.moderator}\t{reversed_kind}" if reversed_kind else ""
        with redis_errors(self._redis):
            await self._made(
                keys=[self._name(decision.decision_id), self._day()],
                args=[
                    wire,
                    _CLAIM_MS,
                    counted,
                    off,
                    _COUNTS_MS,
                    f"{self._clock.now_ms()},{self._clock.now_ms()}\t\t",
                ],
            )

    async def abandon(self, decision_id: str) -> None:
        """See `DecisionLog`."""
        with redis_errors(self._redis):
            await self._abandon(keys=[self._name(decision_id)])

    async def today(self) -> Mapping[tuple[str, str], int]:
        """See `DecisionLog`."""
        with redis_errors(self._redis):
            row = await self._redis.hgetall(self._day())
        counts: dict[tuple[str, str], int] = {}
        for name, count in row.items():
            moderator, _, kind = name.decode().rpartition("\t")
            counts[moderator, kind] = int(count)
        return counts

    async def close(self) -> None:
        """Release connections."""
        await self._redis.aclose()
