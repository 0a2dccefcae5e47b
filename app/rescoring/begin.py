"""Beginning a rescoring job, or finding the one that the same request began before."""

from __future__ import annotations

import dataclasses
import secrets
from datetime import UTC, datetime

from app.domain.jobs import JOB_KIND, RUNNING, Job, JobCursor, JobRequest, may_wait
from app.ports.topics import TopicLog
from app.rescoring.jobs import RescoreParts, read_jobs, write_control
from app.rescoring.plan import Planner, slices_for
from app.rescoring.progress import OutcomeCounter
from app.topics import BACKFILL, PREDICTIONS, spec_of


async def begin_job(parts: RescoreParts, request: JobRequest, rate_per_second: float) -> tuple[Job, bool]:
    """Return the job that the same request began and that is not over, and False, or a new one, and True.

    A job is over when it was cancelled, or every task that it put out has its outcome. A time window is cut at the
    present: what is uploaded from here on is scored by the live lane anyway.
    """
    log = parts.log
    before = [job for job in (await read_jobs(log, parts.codec)).values() if job.request == request]
    # Whoever began the newest found the earlier ones over.
    if before and (before[-1].unfinished or await _waits(parts, log, before[-1])):
        return before[-1], False
    now_ms = parts.clock.now_ms()
    moment = datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y%m%d-%H%M%S")
    ends = tuple(sorted((await log.ends(PREDICTIONS)).items()))
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
        job = dataclasses.replace(job, slices=slices_for(await Planner(log, parts.codec, job, {}).count()))
    await write_control(parts, JOB_KIND, job.id, job.to_json())
    return job, True


async def _waits(parts: RescoreParts, log: TopicLog, job: Job) -> bool:
    """Whether tasks of `job` are out and without an outcome yet."""
    if not may_wait(job, parts.clock.now_ms(), spec_of(BACKFILL).retention_ms):
        return False
    counter = OutcomeCounter(log, parts.codec, job)
    await counter.update()
    return counter.ended < job.enqueued
