"""Ports of moderation: the log of decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from schemas.records import ModerationDecision


@dataclass(frozen=True, slots=True)
class ClaimedDecision:
    """Where a decision stands: `new`, `taken` over from a request that died, made (`wire` is its record), or in another
    request's hand. It was first asked for at `since_ms`; `request` is what the caller asked, if that is the same."""

    new: bool
    taken: bool
    request: str
    since_ms: int
    wire: bytes | None


class DecisionLog(Protocol):
    """Which decisions were made lately, so that a repeated request is no second decision, and how many today.

    All raise IndexUnavailable.
    """

    async def claim(self, decision_id: str, request: str, takeover_ms: int) -> ClaimedDecision:
        """Take a decision in hand if nobody has, or whoever has took it so long ago at least; of many callers one."""
        ...

    async def made(self, decision: ModerationDecision, wire: bytes, reversed_kind: str) -> None:
        """Note that a decision is published; counts it once, and takes a reversed one off. Taking back is no skip."""
        ...

    async def abandon(self, decision_id: str) -> None:
        """Forget a claim whose decision was certainly not published."""
        ...

    async def today(self) -> Mapping[tuple[str, str], int]:
        """Return today's (UTC) decisions by (moderator, kind)."""
        ...
