"""Dead letters for operators: which are there, what is in them, and sending them round again.

A letter is open until it was redriven. Redriving publishes the original bytes to the topic that they came from and
marks the letter, both in one transaction: never is a letter marked without its record on its way, nor the reverse.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from agents import IDENTIFY, RETRY, SCORE
from app.domain import identity
from app.domain.events import single_record_message
from app.errors import Poison
from app.pipeline.control_topic import control_key, read_control
from app.ports.clock import Clock
from app.ports.publishing import Message, TransactionalProducer
from app.ports.records import RecordCodec
from app.ports.topics import AtOffsets, AtTime, TopicLog
from app.topics import (
    CONTROL,
    DEAD_LETTERS,
    UPLOADS,
)
from schemas.records import ControlRecord, DeadLetter, ImageTask

REDRIVEN: Final = "redriven"
TRANSACTIONAL_ID: Final = "sightline.redrive"
BRIDGE: Final = "bridge"
# One transaction: some hundred records or some megabytes, far below the transaction timeout.
_CHUNK_LETTERS: Final = 100
_CHUNK_BYTES: Final = 4 * 1024 * 1024
# The index reads tasks too; its letters must not send an upload to score again.
_TASK_AGENTS: Final = frozenset({SCORE.name, RETRY.name})
_INSTEAD: Final = "`./sightline rescore` makes a new record of the image"
_TASK_TOPICS: Final = frozenset({*SCORE.topics, *RETRY.topics})


@dataclass(frozen=True, slots=True)
class LetterFilter:
    """Which letters are meant; None and the empty text mean any."""

    agent: str | None = None
    kind: str | None = None
    reason: str | None = None
    bucket: str | None = None
    since_ms: int | None = None
    letter_id: str = ""
    open_only: bool = True

    def admits(self, letter: DeadLetter, *, redriven: bool) -> bool:
        """Whether `letter` is meant. An id may be given by its beginning."""
        return (
            not (self.open_only and redriven)
            and self.agent in (None, letter.agent)
            and self.kind in (None, letter.kind)
            and self.reason in (None, letter.reason)
            and self.bucket in (None, letter.bucket)
            and (self.since_ms is None or letter.dead_at_ms >= self.since_ms)
            and letter.letter_id.startswith(self.letter_id)
        )


@dataclass(frozen=True, slots=True)
class FoundLetter:
    """A letter, and how often and when it was redriven."""

    letter: DeadLetter
    redriven_times: int
    redriven_at_ms: int
    last_attempt: int

    @property
    def open(self) -> bool:
        """Whether it waits for an operator."""
        return self.redriven_times == 0

    def summary(self) -> dict[str, Any]:
        """Return what `ls --json` prints."""
        letter = self.letter
        return {
            "letter_id": letter.letter_id,
            "open": self.open,
            "agent": letter.agent,
            "kind": letter.kind,
            "reason": letter.reason,
            "detail": letter.detail,
            "attempts": letter.attempts,
            "bucket": letter.bucket,
            "key": letter.object_key,
            "upload_id": letter.upload_id,
            "job_id": letter.job_id,
            "source": f"{letter.source.topic}/{letter.source.partition}/{letter.source.offset}",
            "part": letter.part,
            "value_bytes": letter.value_bytes,
            "dead_at_ms": letter.dead_at_ms,
            "redriven_times": self.redriven_times,
            "redriven_at_ms": self.redriven_at_ms or None,
        }


@dataclass(frozen=True, slots=True)
class Redrive:
    """What was done with one letter: sent to `topic`, or refused with a sentence."""

    letter_id: str
    topic: str
    refused: str


async def read_redriven(log: TopicLog, codec: RecordCodec) -> dict[str, dict[str, Any]]:
    """Return what is known of every redriven letter, by its id."""
    found = {}
    for (_, letter_id), record in (await read_control(log, codec, REDRIVEN)).items():
        try:
            body = json.loads(record.body)
        except ValueError:
            body = {}
        found[letter_id] = body if isinstance(body, dict) else {}
    return found


async def find_letters(log: TopicLog, codec: RecordCodec, wanted: LetterFilter) -> AsyncGenerator[FoundLetter, None]:
    """Yield the letters that `wanted` admits, in the order of their partitions, each letter once."""
    redriven = await read_redriven(log, codec)
    start = AtTime(wanted.since_ms) if wanted.since_ms is not None else None
    seen: set[str] = set()
    async with aclosing(log.scan(DEAD_LETTERS, start)) as records:
        async for record in records:
            try:
                letter = codec.decode_as(record.value, DeadLetter)
            except Poison:
                continue  # written by nobody of ours
            if letter.letter_id in seen or not wanted.admits(letter, redriven=letter.letter_id in redriven):
                continue
            seen.add(letter.letter_id)
            yield _found(letter, redriven)


def _found(letter: DeadLetter, redriven: Mapping[str, Mapping[str, Any]]) -> FoundLetter:
    body = redriven.get(letter.letter_id)
    if body is None:
        return FoundLetter(letter, 0, 0, letter.attempts)
    return FoundLetter(
        letter, int(body.get("times", 1)), int(body.get("at_ms", 0)), int(body.get("attempt", letter.attempts))
    )


class Redriver:
    """Sends letters round again. Two of them at once: the younger goes on, the older ends with Fenced."""

    def __init__(
        self, producer: TransactionalProducer, log: TopicLog, codec: RecordCodec, clock: Clock, operator: str
    ) -> None:
        self._producer = producer
        self._log = log
        self._codec = codec
        self._clock = clock
        self._operator = operator

    async def redrive(self, letters: Sequence[DeadLetter], *, again: bool) -> list[Redrive]:
        """Redrive `letters` and return what was done with each, in their order.

        A letter that was redriven before is refused without `again`. Raises BrokerUnavailable and Fenced; chunks that
        were committed before stay done and are refused at the next try.
        """
        # Read after the producer has fenced all others: nobody else redrives any more.
        redriven = await read_redriven(self._log, self._codec)
        done: list[Redrive] = []
        chunk: list[Message] = []
        size = 0
        for letter in letters:
            found = _found(letter, redriven)
            if not found.open and not again:
                done.append(Redrive(letter.letter_id, "", "was redriven before; --again sends it once more"))
                continue
            made = await self._records(found)
            if isinstance(made, str):
                done.append(Redrive(letter.letter_id, "", made))
                continue
            redriven[letter.letter_id] = {"times": found.redriven_times + 1}
            chunk += made
            size += sum(len(value) for _, _, value in made)
            done.append(Redrive(letter.letter_id, made[0][0], ""))
            if len(chunk) >= 2 * _CHUNK_LETTERS or size >= _CHUNK_BYTES:
                await self._producer.publish(chunk)
                chunk, size = [], 0
        if chunk:
            await self._producer.publish(chunk)
        return done

    async def _records(self, found: FoundLetter) -> list[Message] | str:
        """Return the record of a letter and its mark, or why it cannot be redriven."""
        letter = found.letter
        value = await self._original(letter)
        if value is None:
            return "its bytes were cut and its source record is no longer kept"
        source = identity.declared_topic(letter.source.topic)
        attempt = found.last_attempt
        key = letter.key
        if letter.agent in (IDENTIFY.name, BRIDGE):
            topic = UPLOADS
            value = single_record_message(value) if letter.part >= 0 else value
        elif source in _TASK_TOPICS and letter.agent in _TASK_AGENTS:
            topic = source
            try:
                task = self._codec.decode_as(value, ImageTask)
            except Poison:
                task = None  # unreadable bytes go round as they are, for an agent that can read them by now
            if task is not None:
                attempt = max(task.attempt, found.last_attempt, letter.attempts) + 1
                value = self._codec.encode(
                    replace(task, attempt=attempt, not_before_ms=0, defer_reason=f"redriven by {self._operator}")
                )
                key = identity.task_key(task)
        else:
            return f"{source} has other readers, which would see the record twice; {_INSTEAD}"
        now_ms = self._clock.now_ms()
        body = {
            "agent": letter.agent,
            "topic": topic,
            "times": found.redriven_times + 1,
            "attempt": attempt,
            "at_ms": now_ms,
        }
        mark = ControlRecord(REDRIVEN, letter.letter_id, json.dumps(body), now_ms, self._operator)
        return [(topic, key, value), (CONTROL, control_key(REDRIVEN, letter.letter_id), self._codec.encode(mark))]

    async def _original(self, letter: DeadLetter) -> bytes | None:
        if letter.value is not None and len(letter.value) == letter.value_bytes:
            return letter.value
        if letter.value is None or letter.agent == BRIDGE or letter.part >= 0:
            return None
        topic, source = identity.declared_topic(letter.source.topic), letter.source
        start, end = AtOffsets({source.partition: source.offset}), AtOffsets({source.partition: source.offset + 1})
        async with aclosing(self._log.scan(topic, start, end)) as records:
            async for record in records:
                if (record.partition, record.offset) == (source.partition, source.offset):
                    return record.value
        return None
