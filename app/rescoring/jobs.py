"""Jobs on `control.v1`: finding one, and asking whoever runs it for another state."""

from __future__ import annotations

import dataclasses
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from app.domain.filters import UploadFilter
from app.domain.jobs import CANCELLED, ENQUEUED, JOB_KIND, PAUSED, REQUEST_KIND, RUNNING, Job
from app.errors import ConfigurationError, Poison
from app.pipeline.control_topic import control_key, read_control
from app.ports.clock import Clock
from app.ports.index import Index
from app.ports.objects import ObjectStore
from app.ports.publishing import Producer, Transactions
from app.ports.records import RecordCodec
from app.ports.topics import AtOffsets, ConsumerGroups, TopicLog
from app.topics import CONTROL
from schemas.records import ControlRecord

LOOK_EVERY_SECONDS: Final = 1.0
_STATES: Final = (RUNNING, PAUSED, CANCELLED)


@dataclass(frozen=True, slots=True)
class RescoreParts:
    """Everything that a job needs from outside. `store` and `index` serve jobs over a bucket only."""

    log: TopicLog
    groups: ConsumerGroups
    producer: Producer
    transactions: Transactions
    codec: RecordCodec
    clock: Clock
    worker: str
    filter: UploadFilter
    store: ObjectStore | None = None
    index: Index | None = None


async def read_jobs(log: TopicLog, codec: RecordCodec) -> dict[str, Job]:
    """Return all jobs by id, oldest first; a request to pause or cancel that no runner has seen yet counts already."""
    records = await read_control(log, codec, JOB_KIND, REQUEST_KIND)
    jobs = {}
    for (kind, name), record in records.items():
        if kind != JOB_KIND:
            continue
        try:
            job = Job.from_json(record.body)
        except ValueError:
            continue  # a job of another release
        wanted = records.get((REQUEST_KIND, name))
        if wanted is not None and _may_become(job, wanted.body):
            job = dataclasses.replace(job, state=wanted.body)
        jobs[name] = job
    return dict(sorted(jobs.items(), key=lambda pair: pair[1].created_at_ms))


async def find_job(parts: RescoreParts, job_id: str) -> Job:
    """Return the job; `job_id` may be a part that only one job's id holds. Raises ConfigurationError."""
    jobs = await read_jobs(parts.log, parts.codec)
    if job_id in jobs:
        return jobs[job_id]
    found = [job for name, job in jobs.items() if job_id in name]
    if len(found) != 1:
        known = ", ".join(jobs) or "none"
        raise ConfigurationError(f"{'several jobs' if found else 'no job'} named {job_id!r}; known are {known}")
    return found[0]


async def ask(parts: RescoreParts, job: Job, wanted: str) -> None:
    """Ask whoever runs `job` for a state (PAUSED, CANCELLED, RUNNING); a runner obeys within a chunk."""
    if not _may_become(job, wanted):
        raise ConfigurationError(f"{job.id} is {job.state}: nothing is left to change")
    await write_control(parts, REQUEST_KIND, job.id, wanted)


def _may_become(job: Job, wanted: str) -> bool:
    # Cancelling a job whose tasks are all out takes none back: its outcomes are no longer waited for.
    return job.unfinished or (job.state == ENQUEUED and wanted == CANCELLED)


async def write_control(parts: RescoreParts, kind: str, name: str, body: str) -> None:
    """Publish one control record and return when it is there. Raises BrokerUnavailable."""
    record = ControlRecord(kind, name, body, parts.clock.now_ms(), parts.worker)
    await parts.producer.send_and_wait(CONTROL, control_key(kind, name), parts.codec.encode(record))


class RequestWatch:
    """What operators ask of one job while it runs; looks at `control.v1` once a second at most."""

    def __init__(self, parts: RescoreParts, job_id: str, ends: dict[int, int]) -> None:
        self._codec = parts.codec
        self._clock = parts.clock
        self._log = parts.log
        self._job_id = job_id
        self._next = ends
        self._looked_at = parts.clock.monotonic()

    async def wanted(self) -> str:
        """Return the state that was asked for last since the last look; RUNNING when nothing was."""
        wanted = RUNNING
        now = self._clock.monotonic()
        if now - self._looked_at < LOOK_EVERY_SECONDS:
            return wanted
        self._looked_at = now
        ends = await self._log.ends(CONTROL)
        async with aclosing(self._log.scan(CONTROL, AtOffsets(self._next), AtOffsets(ends))) as records:
            async for record in records:
                try:
                    asked = self._codec.decode_as(record.value, ControlRecord)
                except Poison:
                    continue
                if (asked.kind, asked.name) == (REQUEST_KIND, self._job_id) and asked.body in _STATES:
                    wanted = asked.body
        self._next = ends
        return wanted
