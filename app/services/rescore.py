"""Runs a rescoring job: puts past uploads on the backfill lane, in chunks, and may be killed at any moment.

Each chunk of tasks leaves in one Kafka transaction with the job's record and its cursor, under a transactional id of
the job's own: whoever runs the job last fences everyone before, reads the committed cursor and goes on from it.
"""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from app.adapters.kafka import AtOffsets, AtTime, KafkaProducer, TopicScanner, TransactionalProducer
from app.adapters.kafka_follow import committed_offsets
from app.domain.filters import UploadFilter
from app.domain.identity import task_key
from app.domain.jobs import (
    CANCELLED,
    ENQUEUED,
    JOB_KIND,
    PAUSED,
    REQUEST_KIND,
    RUNNING,
    Job,
    JobCursor,
    JobRequest,
)
from app.errors import BrokerUnavailable, ConfigurationError, Poison
from app.ports import Clock, Index, ObjectStore, RecordCodec
from app.services.control_topic import control_key, read_control
from app.services.rescore_listing import listed_tasks
from app.services.rescore_plan import Planner, rescore_task, slices_for
from app.settings import KafkaSettings
from app.topics import BACKFILL, CONTROL, DEAD_LETTERS, PREDICTIONS
from schemas.records import ControlRecord, DeadLetter, ImagePrediction, ImageTask

# One transaction holds at most so many tasks of about 1 KB: tens of milliseconds at the broker.
CHUNK_TASKS: Final = 500
# With a rate, a chunk holds no more than this much time, so that pausing and the rate stay smooth.
_CHUNK_SECONDS: Final = 1.0
_MODERATE_GROUP: Final = "sightline.moderate"
# A broker that restarts is back within this; after it the operator is told how to go on.
_BROKER_PATIENCE_SECONDS: Final = 120.0
_COUNT_EVERY_SECONDS: Final = 2.0
_RATE_WINDOW_SECONDS: Final = 30.0
_LOOK_EVERY_SECONDS: Final = 1.0
_STATES: Final = (RUNNING, PAUSED, CANCELLED)


@dataclass(frozen=True, slots=True)
class Progress:
    """A job and what came of its tasks so far. `phase`: planning, enqueuing, paused, cancelled, waiting or done."""

    job: Job
    phase: str
    outcomes: int
    dead_letters: int
    rate_per_second: float
    seconds_left: float | None


Report = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class RescoreParts:
    """Everything that a job needs from outside. `store` and `index` serve jobs over a bucket only."""

    kafka: KafkaSettings
    codec: RecordCodec
    clock: Clock
    worker: str
    filter: UploadFilter
    store: ObjectStore | None = None
    index: Index | None = None


async def begin_job(parts: RescoreParts, request: JobRequest, rate_per_second: float) -> tuple[Job, bool]:
    """Return the unfinished job of the same request, and False, or a new one, and True.

    A time window is cut at the present: what is uploaded from here on is scored by the live lane anyway.
    """
    scanner = TopicScanner(parts.kafka)
    for job in (await read_jobs(scanner, parts.codec)).values():
        if job.unfinished and job.request == request:
            return job, False
    now_ms = parts.clock.now_ms()
    moment = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%d-%H%M%S")
    ends = tuple(sorted((await scanner.ends(PREDICTIONS)).items()))
    job = Job(
        id=f"rescore-{moment}-{secrets.token_hex(3)}",
        request=request,
        state=RUNNING,
        created_at_ms=now_ms,
        ends=ends,
        slices=1,
        total=0,
        enqueued=0,
        skipped=0,
        cursor=JobCursor(0, (), ""),
        rate_per_second=rate_per_second,
        error="",
    )
    if request.by_time:
        job = dataclasses.replace(job, slices=slices_for(await Planner(scanner, parts.codec, job, {}).count()))
    await _write(parts, JOB_KIND, job.id, job.to_json())
    return job, True


async def read_jobs(scanner: TopicScanner, codec: RecordCodec) -> dict[str, Job]:
    """Return all jobs by id, oldest first; a request to pause or cancel that no runner has seen yet counts already."""
    records = await read_control(scanner, codec, JOB_KIND, REQUEST_KIND)
    jobs = {}
    for (kind, name), record in records.items():
        if kind != JOB_KIND:
            continue
        try:
            job = Job.from_json(record.body)
        except ValueError:
            continue  # a job of another release
        wanted = records.get((REQUEST_KIND, name))
        if job.unfinished and wanted is not None:
            job = dataclasses.replace(job, state=wanted.body)
        jobs[name] = job
    return dict(sorted(jobs.items(), key=lambda pair: pair[1].created_at_ms))


async def find_job(parts: RescoreParts, job_id: str) -> Job:
    """Return the job; `job_id` may be a part that only one job's id holds. Raises ConfigurationError."""
    jobs = await read_jobs(TopicScanner(parts.kafka), parts.codec)
    if job_id in jobs:
        return jobs[job_id]
    found = [job for name, job in jobs.items() if job_id in name]
    if len(found) != 1:
        known = ", ".join(jobs) or "none"
        raise ConfigurationError(f"{'several jobs' if found else 'no job'} named {job_id!r}; known are {known}")
    return found[0]


async def ask(parts: RescoreParts, job: Job, wanted: str) -> None:
    """Ask whoever runs `job` for a state (PAUSED, CANCELLED, RUNNING); a runner obeys within a chunk."""
    if not job.unfinished:
        raise ConfigurationError(f"{job.id} is {job.state}: nothing is left to change")
    await _write(parts, REQUEST_KIND, job.id, wanted)


async def _write(parts: RescoreParts, kind: str, name: str, body: str) -> None:
    record = ControlRecord(kind, name, body, parts.clock.now_ms(), parts.worker)
    producer = KafkaProducer(parts.kafka, "sightline-rescore")
    try:
        await producer.send_and_wait(CONTROL, control_key(kind, name), parts.codec.encode(record))
    finally:
        await producer.close()


class RescoreRunner:
    """Runs one job in this process."""

    def __init__(self, parts: RescoreParts, report: Report) -> None:
        self._parts = parts
        self._report = report
        self._scanner = TopicScanner(parts.kafka)
        self._outcomes: OutcomeCounter | None = None
        self._marks: list[tuple[float, int]] = []
        self._next_at = 0.0

    async def run(self, job_id: str) -> Job:
        """Put out all tasks that are left, or until the job is paused or cancelled; return the job as it then is.

        Raises Fenced when another process took the job over, BrokerUnavailable when the broker stays away.
        """
        gave_up_at: float | None = None
        while True:
            try:
                return await self._run(job_id)
            except BrokerUnavailable:
                # Whether the last chunk was committed is not known: a new producer and the committed cursor tell.
                moment = self._parts.clock.monotonic()
                gave_up_at = gave_up_at or moment + _BROKER_PATIENCE_SECONDS
                if moment > gave_up_at:
                    raise
                await self._parts.clock.sleep(2.0)

    async def _run(self, job_id: str) -> Job:
        parts = self._parts
        async with TransactionalProducer(parts.kafka, f"sightline.job-{job_id}") as producer:
            requests = RequestWatch(parts, job_id, await self._scanner.ends(CONTROL))
            job = await find_job(parts, job_id)
            if not job.unfinished or job.state != RUNNING:
                return await self._settle(producer, job)
            self._outcomes = OutcomeCounter(self._scanner, parts.codec, job)
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
            return await self._settle(producer, dataclasses.replace(job, state=ENQUEUED, total=job.enqueued))

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
            await clock.sleep(min(left, _LOOK_EVERY_SECONDS))

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
        decided_before = await committed_offsets(self._parts.kafka, _MODERATE_GROUP, PREDICTIONS)
        planner = Planner(self._scanner, self._parts.codec, job, decided_before)
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
        self._outcomes = self._outcomes or OutcomeCounter(self._scanner, self._parts.codec, job)
        self._marks = []
        while True:
            await self._outcomes.update()
            ended = self._outcomes.outcomes + self._outcomes.dead_letters
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


class RequestWatch:
    """What operators ask of one job while it runs; looks at `control.v1` once a second at most."""

    def __init__(self, parts: RescoreParts, job_id: str, ends: dict[int, int]) -> None:
        self._codec = parts.codec
        self._clock = parts.clock
        self._scanner = TopicScanner(parts.kafka)
        self._job_id = job_id
        self._next = ends
        self._looked_at = parts.clock.monotonic()

    async def wanted(self) -> str:
        """Return the state that was asked for last since the last look; RUNNING when nothing was."""
        wanted = RUNNING
        now = self._clock.monotonic()
        if now - self._looked_at < _LOOK_EVERY_SECONDS:
            return wanted
        self._looked_at = now
        ends = await self._scanner.ends(CONTROL)
        async with aclosing(self._scanner.scan(CONTROL, AtOffsets(self._next), AtOffsets(ends))) as records:
            async for record in records:
                try:
                    asked = self._codec.decode_as(record.value, ControlRecord)
                except Poison:
                    continue
                if (asked.kind, asked.name) == (REQUEST_KIND, self._job_id) and asked.body in _STATES:
                    wanted = asked.body
        self._next = ends
        return wanted


class OutcomeCounter:
    """Counts what came of a job's tasks: its outcomes on the predictions topic, its dead letters."""

    def __init__(self, scanner: TopicScanner, codec: RecordCodec, job: Job) -> None:
        self._scanner = scanner
        self._codec = codec
        self._job = job
        self._mark = job.id.encode()
        self._next: dict[str, dict[int, int]] = {PREDICTIONS: dict(job.ends)}
        self.outcomes = 0
        self.dead_letters = 0

    async def update(self) -> None:
        """Read on from where the last update ended."""
        self.outcomes += await self._count(PREDICTIONS, ImagePrediction)
        self.dead_letters += await self._count(DEAD_LETTERS, DeadLetter)

    async def _count(self, topic: str, kind: type[ImagePrediction] | type[DeadLetter]) -> int:
        position = self._next.get(topic)
        start = AtTime(self._job.created_at_ms) if position is None else AtOffsets(position)
        ends = await self._scanner.ends(topic)
        count = 0
        async with aclosing(self._scanner.scan(topic, start, AtOffsets(ends))) as records:
            async for record in records:
                # Most records belong to nobody's job: only those that hold the id's bytes are worth decoding.
                if record.value is None or self._mark not in record.value:
                    continue
                try:
                    found = self._codec.decode_as(record.value, kind)
                except Poison:
                    continue
                count += found.job_id == self._job.id
        self._next[topic] = ends
        return count


async def status_of(parts: RescoreParts, job: Job) -> Progress:
    """Return the job with its outcomes counted over the topics; reads everything since the job began."""
    counter = OutcomeCounter(TopicScanner(parts.kafka), parts.codec, job)
    await asyncio.wait_for(counter.update(), 600)
    ended = counter.outcomes + counter.dead_letters
    phase = job.state if job.state != ENQUEUED else ("done" if ended >= job.enqueued else "waiting")
    return Progress(job, phase, counter.outcomes, counter.dead_letters, 0.0, None)
