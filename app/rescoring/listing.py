"""Tasks for the objects of a bucket listing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace

from app.domain.filters import UploadFilter
from app.domain.identity import rescore_upload_id
from app.domain.jobs import Job
from app.domain.policy import FLAGGED, past_verdict
from app.errors import RedisUnavailable
from app.pipeline.listing import task_of_listed
from app.ports.index import Index
from app.ports.objects import ListedObject, ObjectStore
from app.rescoring.plan import rescore_task
from schemas.records import ImageTask, ModelScores


async def listed_tasks(
    store: ObjectStore,
    index: Index | None,
    wanted: UploadFilter,
    job: Job,
    size: int,
    now_ms: Callable[[], int],
) -> AsyncGenerator[tuple[list[ImageTask], str], None]:
    """Yield batches of tasks, each with the last key that it covers; begins after the job's cursor.

    What the index knows of an object (order, digest, scores, verdict) goes into its task; without an index, or for an
    object that it does not know, the listing alone speaks.
    """
    after = job.cursor.key.encode()
    batch: list[ListedObject] = []
    async with aclosing(_listing(store, job)) as objects:
        async for listed in objects:
            # S3 lists in the order of the keys' bytes.
            if listed.key.encode() <= after or not wanted.admits(listed.bucket, listed.key):
                continue
            batch.append(listed)
            if len(batch) >= size:
                yield await _tasks(index, job, batch, now_ms()), batch[-1].key
                batch = []
    if batch:
        yield await _tasks(index, job, batch, now_ms()), batch[-1].key


async def _listing(store: ObjectStore, job: Job) -> AsyncGenerator[ListedObject, None]:
    async for listed in store.list(job.request.bucket, job.request.prefix):
        yield listed


async def _tasks(index: Index | None, job: Job, batch: list[ListedObject], now_ms: int) -> list[ImageTask]:
    return list(await asyncio.gather(*(_task(index, job, listed, now_ms) for listed in batch)))


async def _task(index: Index | None, job: Job, listed: ListedObject, now_ms: int) -> ImageTask:
    known = None
    if index is not None:
        try:
            known = await index.image(listed.bucket, listed.key)
        except RedisUnavailable:
            known = None  # the job goes on with what the listing says; it costs fetches, never correctness
    if known is not None and known.prediction is not None and known.prediction.etag == listed.etag:
        verdict: ModelScores | None = None
        if known.flag is not None and known.flag.state == FLAGGED:
            rules = tuple((rule.rule, rule.severity) for rule in known.flag.rules)
            verdict = past_verdict(known.flag.action, known.flag.policy_version, rules)
        return rescore_task(known.prediction, verdict, job, now_ms)
    task = task_of_listed(listed, now_ms)
    return replace(
        task,
        upload_id=rescore_upload_id(task.upload_id, job.id),
        job_id=job.id,
        models=job.request.models,
        force=job.request.force,
    )
