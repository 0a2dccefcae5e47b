"""Ports of moderation: the log of decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from schemas.records import ModerationDecision


@dataclass(frozen=True, slots=True)
class ClaimedDecision:
    """The state of a decision after `DecisionLog.claim`.

    `new`: nobody had claimed it. `taken`: the claim of a request that died was taken over. `wire`: its record, if it is
    published already. None of them: another request works on it. `since_ms` is when it was first requested. `request`
    is the caller's text if the first request had the same text, else empty.
    """

    new: bool
    taken: bool
    request: str
    since_ms: int
    wire: bytes | None


class DecisionLog(Protocol):
    """Recent decisions, so that a repeated request does not become a second decision, and the counts of today.

    All methods raise RedisUnavailable.
    """

    async def claim(self, decision_id: str, request: str, takeover_ms: int) -> ClaimedDecision:
        """Claim `decision_id`.

        Succeeds if it is unclaimed or the claim is older than `takeover_ms`; exactly one concurrent caller wins.
        """
        ...

    async def made(self, decision: ModerationDecision, wire: bytes, reversed_kind: str) -> None:
        """Note that a decision is published. Counts it once, and subtracts the one that it reverses (`reversed_kind`).

        A skip that reverses a decision does not count as a skip.
        """
        ...

    async def abandon(self, decision_id: str) -> None:
        """Forget a claim whose decision was certainly not published."""
        ...

    async def today(self) -> Mapping[tuple[str, str], int]:
        """Return today's (UTC) decisions by (moderator, kind)."""
        ...
