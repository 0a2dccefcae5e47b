"""Schedule of retries for deferred uploads, and its end.

The first attempt has the number 1. Each delay has its own topic, so every topic is in due order.
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
    """A task to retry: the topic in which it waits, and the task with its next attempt number."""

    topic: str
    task: ImageTask


@dataclass(frozen=True, slots=True)
class UsedUp:
    """Result of a task whose attempts are used up: a dead letter."""

    attempts: int


def defer(task: ImageTask, *, reason: str, now_ms: int, retries: int) -> Deferral | UsedUp:
    """Return the retry topic and next attempt of `task` after an attempt that failed for `reason`.

    `retries` is the number of attempts after the first. A redriven task is beyond them and gets one attempt.
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
    """Return the due time of `task`, which was written to its retry topic at `deferred_at_ms`.

    It is never later than the longest delay after that time, so a wrong clock cannot block a topic.
    """
    return min(task.not_before_ms, deferred_at_ms + LONGEST_DELAY_MS)
