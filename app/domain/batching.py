"""Micro-batches: a pure state machine that decides when a batch closes and which members it has; time is an argument.

A batch may close when it is full or when its oldest member has waited `max_delay_seconds`. It is taken only when the
device is free, so it grows while the device is busy. Live work goes first; backfill fills the remaining places.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from enum import IntEnum
from typing import Generic, TypeVar


class Priority(IntEnum):
    """Order of service: live work before backfill."""

    LIVE = 0
    BACKFILL = 1


@dataclass(frozen=True, slots=True)
class BatchRule:
    """A batch closes at `max_batch` members or `max_delay_seconds` after its first."""

    max_batch: int
    max_delay_seconds: float


T = TypeVar("T", bound=Hashable)


class BatchQueue(Generic[T]):
    """The members that wait for one network. Members are hashable, and none waits twice at the same time."""

    def __init__(self, rule: BatchRule) -> None:
        self.rule = rule
        self._waiting: tuple[deque[T], deque[T]] = (deque(), deque())
        self._since: dict[T, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    @property
    def urgent(self) -> bool:
        """Return whether live work waits."""
        return bool(self._waiting[Priority.LIVE])

    def add(self, member: T, priority: Priority, now: float) -> None:
        """Add `member` to the queue."""
        self._since[member] = now
        self._waiting[priority].append(member)

    def promote(self, chosen: Callable[[T], bool]) -> None:
        """Move the chosen members from backfill to live. Their waiting time is kept."""
        backfill = self._waiting[Priority.BACKFILL]
        for member in [member for member in backfill if chosen(member)]:
            backfill.remove(member)
            self._waiting[Priority.LIVE].append(member)

    def discard(self, member: T) -> None:
        """Remove a member. Does nothing if the member does not wait."""
        if self._since.pop(member, None) is not None:
            for waiting in self._waiting:
                if member in waiting:
                    waiting.remove(member)

    def due_at(self) -> float | None:
        """Return the time at which the next batch closes: in the past for a full batch, None for an empty queue."""
        if not self._since:
            return None
        if len(self._since) >= self.rule.max_batch:
            return float("-inf")
        # Members wait in the order of their arrival, but a promoted member may be older than the head of its queue.
        return min(self._since.values()) + self.rule.max_delay_seconds

    def take(self) -> list[T]:
        """Remove and return the members of one batch: live ones first, each kind in the order of arrival."""
        batch: list[T] = []
        for waiting in self._waiting:
            while waiting and len(batch) < self.rule.max_batch:
                member = waiting.popleft()
                del self._since[member]
                batch.append(member)
        return batch
