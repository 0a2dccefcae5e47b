"""Filling the index again from the topics, after Redis was lost."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from app.errors import Poison, RedisUnavailable
from app.pipeline.index import ImageFacts
from app.ports.clock import Clock
from app.ports.index import IndexedRecord, IndexEntry
from app.ports.records import RecordCodec
from app.ports.topics import TopicLog
from app.topics import DECISIONS, FLAGGED, PREDICTIONS, REMOVED

# Removals first: their tombstones keep out what was removed, so that it never shows, not even while rebuilding.
# Decisions before flags: what was decided does not come before moderators again.
ORDER: Final = (REMOVED, PREDICTIONS, DECISIONS, FLAGGED)
_BATCH: Final = 500
_WAIT_SECONDS: Final = 2.0
_PATIENCE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class RebuildProgress:
    """How far a rebuild is: the topic in hand, records stored of it, records in it at most, unreadable ones."""

    topic: str
    stored: int
    expected: int
    unreadable: int


async def rebuild(
    log: TopicLog,
    codec: RecordCodec,
    facts: ImageFacts,
    clock: Clock,
    report: Callable[[RebuildProgress], None],
) -> dict[str, int]:
    """Store everything that the topics hold up to this moment; return the records stored by topic.

    Safe beside a running index worker and safe to repeat: each fact is compared and set. Raises BrokerUnavailable, and
    RedisUnavailable when Redis stays away for a minute.
    """
    stored: dict[str, int] = {}
    for topic in ORDER:
        expected = await log.count(topic)
        done = unreadable = 0
        batch: list[IndexEntry] = []
        async with aclosing(log.scan(topic)) as records:
            async for record in records:
                try:
                    decoded = codec.decode(record.value)
                except Poison:
                    unreadable += 1
                    continue
                if record.value is None or not isinstance(decoded, IndexedRecord):
                    unreadable += 1
                    continue
                batch.append(IndexEntry(decoded, record.value))
                if len(batch) >= _BATCH:
                    await _store(facts, clock, batch)
                    done += len(batch)
                    batch = []
                    report(RebuildProgress(topic, done, expected, unreadable))
        await _store(facts, clock, batch)
        stored[topic] = done + len(batch)
        report(RebuildProgress(topic, stored[topic], expected, unreadable))
    return stored


async def _store(facts: ImageFacts, clock: Clock, batch: list[IndexEntry]) -> None:
    if not batch:
        return
    give_up_at = clock.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            return await facts.store(batch)
        except RedisUnavailable:
            if clock.monotonic() > give_up_at:
                raise
            await clock.sleep(_WAIT_SECONDS)
