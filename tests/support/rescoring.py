"""Rescoring jobs on topics in memory, or on those that a subclass brings."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final

from app.domain.filters import UploadFilter
from app.domain.identity import image_key
from app.domain.jobs import Job, JobRequest
from app.ports.objects import FetchedObject, ListedObject, ObjectMissing, ObjectRef
from app.rescoring.begin import begin_job
from app.rescoring.jobs import RescoreParts
from app.rescoring.progress import Progress
from app.rescoring.rescore import RescoreRunner
from app.systems.registry.avro import Codec
from app.topics import BACKFILL, FLAGGED, PREDICTIONS, REMOVED
from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved, ImageTask
from tests.support.ingest import WITHOUT_LAKE
from tests.support.manual_clock import HeldClock
from tests.support.memory.topics import MemoryGroups, MemoryProducer, MemoryTopicLog, memory_transactions
from tests.support.outcomes import EVENT_MS, prediction

CODEC: Final = Codec()
HOUR_MS: Final = 3_600_000
TOPIC_OF: Final = {ImagePrediction: PREDICTIONS, ImageRemoved: REMOVED, FlaggedImage: FLAGGED}


class Listing:
    """An object store that only lists."""

    def __init__(self, *objects: ListedObject) -> None:
        self._objects = objects

    async def fetch(
        self, ref: ObjectRef, *, max_bytes: int, alternate_key: str | None = None
    ) -> FetchedObject | ObjectMissing:
        raise AssertionError("a rescoring job reads no object itself")

    async def list(self, bucket: str, prefix: str) -> AsyncIterator[ListedObject]:
        for listed in self._objects:
            if listed.bucket == bucket and listed.key.startswith(prefix):
                yield listed

    async def close(self) -> None:
        """Nothing is open."""


class RescoreRig:
    """The parts of a job, and what it reported."""

    def __init__(self, parts: RescoreParts) -> None:
        self.parts = parts
        self.reports: list[Progress] = []

    async def publish(self, *facts: ImagePrediction | ImageRemoved | FlaggedImage) -> None:
        await self.parts.producer.send_batch(
            [(TOPIC_OF[type(fact)], image_key(fact.bucket, fact.key), CODEC.encode(fact)) for fact in facts]
        )

    async def tasks(self) -> list[ImageTask]:
        async with aclosing(self.parts.log.scan(BACKFILL)) as records:
            return [CODEC.decode_as(record.value, ImageTask) async for record in records]

    def runner(self) -> RescoreRunner:
        return RescoreRunner(self.parts, self.reports.append)

    async def run(self, request: JobRequest, rate: float = 0.0) -> Job:
        job, _ = await begin_job(self.parts, request, rate)
        return await self.runner().run(job.id)


class MemoryRig(RescoreRig):
    """Topics in memory, and a clock that moves only in `until`."""

    def __init__(self) -> None:
        self.clock = HeldClock(EVENT_MS + HOUR_MS)
        self.memory = MemoryTopicLog(self.clock)
        self.groups = MemoryGroups(self.memory)
        super().__init__(
            RescoreParts(
                self.memory,
                self.groups,
                MemoryProducer(self.memory),
                memory_transactions(self.memory),
                CODEC,
                self.clock,
                "test",
                UploadFilter.of(WITHOUT_LAKE),
            )
        )

    async def until(self, condition: Callable[[], object]) -> None:
        """Let others run and time pass, a hundredth of a second at a time, until `condition` holds."""
        for _ in range(100_000):
            if condition():
                return
            await asyncio.sleep(0)
            self.clock.advance(0.01)
        raise AssertionError("the condition did not come to hold within 1,000 seconds of this clock")


def window(first: int = 0, last: int | None = None, **changes: Any) -> JobRequest:
    """A request for uploads by their event times, in milliseconds from EVENT_MS on."""
    request = JobRequest(EVENT_MS + first, None if last is None else EVENT_MS + last, "", "", (), False)
    return dataclasses.replace(request, **changes)


def uploads(count: int) -> list[ImagePrediction]:
    """So many uploads with different keys and contents."""
    return [
        prediction(order=number + 1, key=f"shop/{number:05d}.jpg", sha256=f"{number:064x}") for number in range(count)
    ]
