"""`retry`: deferred uploads wait until they are due, then return to the lane they came from."""

from __future__ import annotations

from typing import Final

from app.domain import identity, retries
from app.pipeline.dead_letters import DeadLetters
from app.ports.clock import Clock
from app.ports.processing import LaneStatus
from app.ports.records import Completion, Output, RecordCodec, SourceRecord
from schemas.records import ImageTask

AGENT: Final = "retry"
# Longest sleep before the due time is checked again, because the wall clock may jump.
_LONGEST_NAP_SECONDS: Final = 30.0


class RetryProcessor:
    """A `Processor` that holds each task of a retry topic until it is due, then forwards it unchanged, with its key.

    A topic has one delay, so its records are due in order.
    """

    def __init__(self, codec: RecordCodec, clock: Clock, status: LaneStatus) -> None:
        self._letters = DeadLetters(AGENT, codec, clock)
        self._clock = clock
        self._status = status
        self._waiting = 0

    async def process(self, record: SourceRecord) -> Completion:
        """Return the task for its lane once it is due. A record that is not a task becomes a dead letter at once."""
        task = self._letters.decoded(record, ImageTask)
        if isinstance(task, Completion):
            return task
        await self._until(retries.due_ms(task, record.timestamp_ms))
        return Completion(outputs=(Output(retries.lane_topic(task), identity.task_key(task), task),))

    def given_up(self, record: SourceRecord, kind: str, detail: str) -> Completion:
        """See GivesUp. If the record is not a task, the letter names no upload."""
        task = self._letters.task_in(record)
        letter = self._letters.letter(record, kind, kind, detail, task=task, attempts=task.attempt if task else 1)
        return Completion(outputs=(letter,), dead_letters=1)

    async def _until(self, due_ms: int) -> None:
        if self._clock.now_ms() >= due_ms:
            return
        self._waiting += 1
        self._status.waiting("not-due")
        try:
            while (left_ms := due_ms - self._clock.now_ms()) > 0:
                await self._clock.sleep(min(left_ms / 1000, _LONGEST_NAP_SECONDS))
        finally:
            self._waiting -= 1
            # Other records still wait until they are due: the lane is idle, not stalled.
            if self._waiting:
                self._status.waiting("not-due")
            else:
                self._status.working()
