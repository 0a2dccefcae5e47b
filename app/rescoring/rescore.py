"""Runs a rescoring job: puts past uploads on the backfill lane, in chunks, and may be killed at any moment.

Each chunk of tasks leaves in one Kafka transaction with the job's record and its cursor, under a transactional id of
the job's own: whoever runs the job last fences everyone before, reads the committed cursor and goes on from it.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from agents import MODERATE
from app.domain.identity import task_key
from app.domain.jobs import (
    ENQUEUED,
    JOB_KIND,
    RUNNER_KIND,
    RUNNING,
    Job,
    JobCursor,
)
from app.errors import BrokerUnavailable, ConfigurationError
from app.pipeline.control_topic import control_key
from app.ports.publishing import TransactionalProducer
from app.ports.topics import of_topic
from app.rescoring.jobs import LOOK_EVERY_SECONDS, RequestWatch, RescoreParts, find_job, write_control
from app.rescoring.listing import listed_tasks
from app.rescoring.plan import Planner, rescore_task
from app.rescoring.progress import OutcomeCounter, Progress, Report
from app.rescoring.signs import signs_of_life
from app.topics import BACKFILL, CONTROL, PREDICTIONS
from schemas.records import ControlRecord, ImageTask

# One transaction holds at most so many tasks of about 1 KB: tens of milliseconds at the broker.
CHUNK_TASKS: Final = 500
# With a rate, a chunk holds no more than this much time, so that pausing and the rate stay smooth.
_CHUNK_SECONDS: Final = 1.0
# A broker that restarts is back within this; after it the operator is told how to go on.
_BROKER_PATIENCE_SECONDS: Final = 120.0
_COUNT_EVERY_SECONDS: Final = 2.0
_RATE_WINDOW_SECONDS: Final = 30.0


class RescoreRunner:
    """Runs one job in this process."""

    def __init__(self, parts: RescoreParts, report: Report) -> None:
        self._parts = parts
        self._report = report
        self._log = parts.log
        self._outcomes: OutcomeCounter | None = None
        self._marks: list[tuple[float, int]] = []
        self._next_at = 0.0

    async def run(self, job_id: str, rate_per_second: float | None = None) -> Job:
        """Put out all tasks that are left, or until the job is paused or cancelled; return the job as it then is.

        With a rate, the job has that one from here on. Raises Fenced when another process took the job over,
        BrokerUnavailable when the broker stays away.
        """
        sign = functools.partial(write_control, self._parts, RUNNER_KIND, job_id, "{}")
        async with signs_of_life(self._parts.clock, sign):
            return await self._run_patiently(job_id, rate_per_second)

    async def _run_patiently(self, job_id: str, rate_per_second: float | None) -> Job:
        gave_up_at: float | None = None
        while True:
            try:
                return await self._run(job_id, rate_per_second)
            except BrokerUnavailable:
                # Whether the last chunk was committed is not known: a new producer and the committed cursor tell.
                moment = self._parts.clock.monotonic()
                gave_up_at = gave_up_at or moment + _BROKER_PATIENCE_SECONDS
                if moment > gave_up_at:
                    raise
                await self._parts.clock.sleep(2.0)

    async def _run(self, job_id: str, rate_per_second: float | None) -> Job:
        parts = self._parts
        async with parts.transactions(f"sightline.job-{job_id}") as producer:
            requests = RequestWatch(parts, job_id, await self._log.ends(CONTROL))
            job = await find_job(parts, job_id)
            if not job.unfinished or job.state != RUNNING:
                return await self._settle(producer, job)
            if rate_per_second is not None:
                job = dataclasses.replace(job, rate_per_second=rate_per_second)
            self._outcomes = OutcomeCounter(self._log, parts.codec, job)
            self._next_at = parts.clock.monotonic()
            self._marks = [(self._next_at, job.enqueued)]
            self._say(job, "planning")
            async with aclosing(self._chunks(job)) as chunks:
                async for chunk in chunks:
                    job = dataclasses.replace(
                        job,
                        total=chunk.total,
                        skipped=chunk.skipped,
                        cursor=chunk.cursor,
                        enqueued=job.enqueued + len(chunk.tasks),
                    )
                    await self._publish(producer, job, chunk.tasks)
                    self._say(job, "enqueuing")
                    wanted = await self._pace(requests, job, len(chunk.tasks))
                    if wanted != RUNNING:
                        return await self._settle(producer, dataclasses.replace(job, state=wanted))
            out = dataclasses.replace(job, state=ENQUEUED, total=job.enqueued, enqueued_at_ms=parts.clock.now_ms())
            return await self._settle(producer, out)

    async def _settle(self, producer: TransactionalProducer, job: Job) -> Job:
        await self._publish(producer, job, ())
        self._say(job, "waiting" if job.state == ENQUEUED else job.state)
        return job

    async def _publish(self, producer: TransactionalProducer, job: Job, tasks: Sequence[ImageTask]) -> None:
        encode = self._parts.codec.encode
        record = ControlRecord(JOB_KIND, job.id, job.to_json(), self._parts.clock.now_ms(), self._parts.worker)
        await producer.publish(
            [
                *((BACKFILL, task_key(task), encode(task)) for task in tasks),
                (CONTROL, control_key(JOB_KIND, job.id), encode(record)),
            ]
        )

    async def _pace(self, requests: RequestWatch, job: Job, sent: int) -> str:
        """Hold the rate, and return at once when somebody asks for another state."""
        clock = self._parts.clock
        if job.rate_per_second > 0:
            # The time that publishing took is part of the pace; what was missed is not caught up.
            self._next_at = max(self._next_at, clock.monotonic() - _CHUNK_SECONDS) + sent / job.rate_per_second
        while True:
            wanted = await requests.wanted()
            left = self._next_at - clock.monotonic()
            if wanted != RUNNING or left <= 0:
                return wanted
            await clock.sleep(min(left, LOOK_EVERY_SECONDS))

    # --- chunks of tasks ---

    async def _chunks(self, job: Job) -> AsyncGenerator[_Chunk, None]:
        size = CHUNK_TASKS
        if job.rate_per_second > 0:
            size = max(1, min(size, round(job.rate_per_second * _CHUNK_SECONDS)))
        source = self._chunks_by_time(job, size) if job.request.by_time else self._chunks_by_bucket(job, size)
        async with aclosing(source) as chunks:
            async for chunk in chunks:
                yield chunk

    async def _chunks_by_time(self, job: Job, size: int) -> AsyncGenerator[_Chunk, None]:
        committed = await self._parts.groups.committed((MODERATE.group,))
        decided_before = of_topic(committed[MODERATE.group], PREDICTIONS)
        planner = Planner(self._log, self._parts.codec, job, decided_before)
        offsets = dict(job.cursor.offsets)
        done, skipped, total = job.enqueued, job.skipped, job.total
        for number in range(job.cursor.slice, job.slices):
            plan = await planner.plan(number)
            if not offsets:
                # Images fall into slices by hash: each slice is as large as the next.
                total = done + len(plan.chosen) * (job.slices - number)
                skipped += plan.skipped
            batch: list[ImageTask] = []
            async with aclosing(planner.predictions(tuple(offsets.items()))) as records:
                async for record in records:
                    offsets[record.partition] = record.offset + 1
                    place = (record.partition, record.offset)
                    prediction = planner.read(record) if place in plan.chosen else None
                    if prediction is None:
                        continue
                    batch.append(rescore_task(prediction, plan.chosen[place], job, self._parts.clock.now_ms()))
                    if len(batch) >= size:
                        done += len(batch)
                        yield _Chunk(tuple(batch), JobCursor(number, _sorted(offsets), ""), max(total, done), skipped)
                        batch = []
            done += len(batch)
            offsets = {}
            yield _Chunk(tuple(batch), JobCursor(number + 1, (), ""), max(total, done), skipped)

    async def _chunks_by_bucket(self, job: Job, size: int) -> AsyncGenerator[_Chunk, None]:
        store = self._parts.store
        if store is None:
            raise ConfigurationError("a job over a bucket needs the object store")
        total, done = job.total, job.enqueued
        if not job.cursor.key:
            total = 0
            async for listed in store.list(job.request.bucket, job.request.prefix):
                total += self._parts.filter.admits(listed.bucket, listed.key)
        source = listed_tasks(store, self._parts.index, self._parts.filter, job, size, self._parts.clock.now_ms)
        async with aclosing(source) as batches:
            async for tasks, key in batches:
                done += len(tasks)
                yield _Chunk(tuple(tasks), JobCursor(0, (), key), max(total, done), job.skipped)

    # --- progress ---

    async def wait_for_outcomes(self, job: Job) -> Progress:
        """Report until every task of `job` has its outcome (or is a dead letter); return the last report."""
        self._outcomes = self._outcomes or OutcomeCounter(self._log, self._parts.codec, job)
        self._marks = []
        while True:
            await self._outcomes.update()
            ended = self._outcomes.ended
            done = ended >= job.enqueued
            progress = self._progress(job, "done" if done else "waiting", ended)
            self._report(progress)
            if done:
                return progress
            await self._parts.clock.sleep(_COUNT_EVERY_SECONDS)

    def _say(self, job: Job, phase: str) -> None:
        self._report(self._progress(job, phase, job.enqueued))

    def _progress(self, job: Job, phase: str, count: int) -> Progress:
        now = self._parts.clock.monotonic()
        self._marks = [mark for mark in self._marks if mark[0] > now - _RATE_WINDOW_SECONDS][-200:] or self._marks[-1:]
        rate = 0.0
        if self._marks and now > self._marks[0][0]:
            rate = (count - self._marks[0][1]) / (now - self._marks[0][0])
        self._marks.append((now, count))
        goal = job.enqueued if phase in ("waiting", "done") else job.total
        left = (goal - count) / rate if rate > 0 and goal >= count else None
        outcomes, letters = (self._outcomes.outcomes, self._outcomes.dead_letters) if self._outcomes else (0, 0)
        return Progress(job, phase, outcomes, letters, rate, left)


@dataclass(frozen=True, slots=True)
class _Chunk:
    tasks: tuple[ImageTask, ...]
    cursor: JobCursor
    total: int
    skipped: int


def _sorted(offsets: dict[int, int]) -> tuple[tuple[int, int], ...]:
    return tuple(sorted(offsets.items()))
