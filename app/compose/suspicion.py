"""Build the suspects of a worker and follow its parked records."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.declaration import Agent
from app.parking.marks import open_marks
from app.parking.records import ParkedRecords
from app.ports.clock import Clock
from app.ports.records import RecordCodec
from app.settings import KafkaSettings
from app.streaming.ports import OnFailure, SourcePartition
from app.streaming.suspects import Place, Suspects, starting_notice
from app.systems.kafka.admin import topic_ids
from app.systems.kafka.topic_log import KafkaTopicLog

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Suspicion:
    """The suspects of a worker, and how many dead letters the process before it released in a row before it died."""

    suspects: Suspects
    letters: int = 0


@contextlib.asynccontextmanager
async def suspicion_of(
    agent: Agent,
    kafka: KafkaSettings,
    *,
    topics: Sequence[str],
    capacity: int,
    folder: Path,
    codec: RecordCodec,
    clock: Clock,
    on_failure: OnFailure,
) -> AsyncIterator[Suspicion]:
    """Yield the suspects of a worker that has at most `capacity` records in hand, its parked records known to them.

    `topics` are without the prefix; `folder` is the worker's own. An agent that parks nothing has no suspects either.
    Raises StartupRefused, BrokerUnavailable.
    """
    if not agent.parks:
        yield Suspicion(Suspects())
        return
    cluster, ids = await topic_ids(kafka.bootstrap, (kafka.prefix + topic for topic in topics))
    marks = await asyncio.to_thread(open_marks, folder, cluster, kafka.prefix + agent.group, ids, capacity)
    with contextlib.closing(marks):
        last = marks.last_run
        suspects = Suspects(marks, last.crashes, last.letters)
        if suspects.left:
            logger.warning("%s", starting_notice(suspects))

        def changed(parked: Mapping[tuple[str, int, int], str]) -> None:
            places = {
                Place(SourcePartition(kafka.prefix + topic, number), offset): why
                for (topic, number, offset), why in parked.items()
            }
            suspects.park(places)

        async with KafkaTopicLog(kafka) as log:
            short = {name.removeprefix(kafka.prefix): topic_id for name, topic_id in ids.items()}
            parked = ParkedRecords(log, codec, clock, agent.name, short, changed)
            await parked.read()

            def ended(task: asyncio.Task[None]) -> None:
                if not task.cancelled() and (error := task.exception()) is not None:
                    on_failure(error)

            following = asyncio.create_task(parked.follow(), name="parked records")
            following.add_done_callback(ended)
            try:
                yield Suspicion(suspects, last.letters)
            finally:
                following.cancel()
                await asyncio.gather(following, return_exceptions=True)
