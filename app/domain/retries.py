"""When a deferred upload is tried again, and when its attempts are used up.

The first attempt has the number 1. One topic per delay keeps each topic in due order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from app.topics import BACKFILL, RETRIES_1H, RETRIES_5M, RETRIES_30S, TASKS
from schemas.records import ImageTask

FIRST_ATTEMPT: Final = 1
LIVE: Final = "live"
BACKFILL_LANE: Final = "backfill"

# (topic, delay in milliseconds): after the first failure, the second, the third and every later one.
SCHEDULE: Final = ((RETRIES_30S, 30_000), (RETRIES_5M, 300_000), (RETRIES_1H, 3_600_000))
LONGEST_DELAY_MS: Final = max(delay for _, delay in SCHEDULE)


@dataclass(frozen=True, slots=True)
class Deferral:
    """A task to be tried again: where it waits, and the task with its next attempt."""

    topic: str
    task: ImageTask


@dataclass(frozen=True, slots=True)
class UsedUp:
    """All attempts are used up: a dead letter."""

    attempts: int


def defer(task: ImageTask, *, reason: str, now_ms: int, retries: int) -> Deferral | UsedUp:
    """Return where `task` waits after this attempt of it failed for `reason`.

    `retries` counts the attempts after the first. A redriven task comes with a number beyond them: it has one attempt.
    """
    if task.attempt - FIRST_ATTEMPT >= retries:
        return UsedUp(task.attempt)
    topic, delay_ms = SCHEDULE[min(task.attempt - FIRST_ATTEMPT, len(SCHEDULE) - 1)]
    return Deferral(
        topic, replace(task, attempt=task.attempt + 1, not_before_ms=now_ms + delay_ms, defer_reason=reason)
    )


def lane_topic(task: ImageTask) -> str:
    """Return the topic of the lane that `task` came from."""
    return BACKFILL if task.lane == BACKFILL_LANE else TASKS


def due_ms(task: ImageTask, deferred_at_ms: int) -> int:
    """Return when `task`, written to its retry topic at `deferred_at_ms`, is due.

    Never later than the longest delay after it was written: a clock that was wrong for a moment cannot hold up a topic.
    """
    return min(task.not_before_ms, deferred_at_ms + LONGEST_DELAY_MS)
