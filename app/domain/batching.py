"""When a micro-batch closes and who is in it: a pure state machine, time is an argument.

A batch may close when it is full, or when its oldest member has waited long enough; it is only taken when the device is
free, so it goes on filling while the device is busy. Live work goes first and backfill fills up what is left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar


class Priority(IntEnum):
    """Whose work goes first."""

    LIVE = 0
    BACKFILL = 1


@dataclass(frozen=True, slots=True)
class BatchRule:
    """A batch closes at `max_batch` members or `max_delay_seconds` after its first."""

    max_batch: int
    max_delay_seconds: float


T = TypeVar("T", bound=Hashable)


class BatchQueue(Generic[T]):
    """The members that wait for one network. Members are compared by identity or hash and never waiting twice."""

    def __init__(self, rule: BatchRule) -> None:
        self.rule = rule
        self._waiting: tuple[deque[T], deque[T]] = (deque(), deque())
        self._since: dict[T, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    @property
    def urgent(self) -> bool:
        """Whether live work waits."""
        return bool(self._waiting[Priority.LIVE])

    def add(self, member: T, priority: Priority, now: float) -> None:
        """Let `member` wait."""
        self._since[member] = now
        self._waiting[priority].append(member)

    def promote(self, chosen: Callable[[T], bool]) -> None:
        """Move the chosen members from backfill to live; they keep the time since which they wait."""
        backfill = self._waiting[Priority.BACKFILL]
        for member in [member for member in backfill if chosen(member)]:
            backfill.remove(member)
            self._waiting[Priority.LIVE].append(member)

    def discard(self, member: T) -> None:
        """Forget a member; nothing happens when it does not wait."""
        if self._since.pop(member, None) is not None:
            for waiting in self._waiting:
                if member in waiting:
                    waiting.remove(member)

    def due_at(self) -> float | None:
        """Return when the next batch closes: in the past for a full one, None while nobody waits."""
        if not self._since:
            return None
        if len(self._since) >= self.rule.max_batch:
            return float("-inf")
        # Members wait in the order of their coming, but a promoted one may be older than the head of its queue.
        return min(self._since.values()) + self.rule.max_delay_seconds

    def take(self) -> list[T]:
        """Return the members of one batch and forget them: live ones first, each kind in the order of its coming."""
        batch: list[T] = []
        for waiting in self._waiting:
            while waiting and len(batch) < self.rule.max_batch:
                member = waiting.popleft()
                del self._since[member]
                batch.append(member)
        return batch
