"""Rescoring jobs as processes on a real broker: killed, paused and taken over; tests/unit has what they cover."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from app.domain.filters import UploadFilter
from app.domain.jobs import CANCELLED, ENQUEUED, PAUSED, RUNNING, parse_time
from app.errors import ConfigurationError, Fenced
from app.rescoring.begin import begin_job
from app.rescoring.jobs import RescoreParts, ask, find_job
from app.rescoring.rescore import RescoreRunner
from app.settings import ROOT, KafkaSettings, S3Settings, Secret
from app.stack.local import LocalStack
from app.systems.clock import SystemClock
from app.systems.kafka.groups import KafkaGroups
from app.systems.kafka.producer import KafkaProducer, KafkaTransactionalProducer
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.s3.admin import create_bucket
from app.systems.s3.put import Uploader
from tests.support.eventually import eventually
from tests.support.ingest import WITHOUT_LAKE
from tests.support.outcomes import EVENT_MS
from tests.support.rescoring import CODEC, RescoreRig, uploads, window
from tests.support.stack import TEST_PARTITIONS, TestNames

pytestmark = pytest.mark.services


class Rig(RescoreRig):
    def __init__(self, stack: LocalStack, prefix: str) -> None:
        kafka = KafkaSettings(bootstrap=stack.kafka, prefix=prefix, partitions=TEST_PARTITIONS)
        super().__init__(
            RescoreParts(
                KafkaTopicLog(kafka),
                KafkaGroups(kafka),
                KafkaProducer(kafka),
                partial(KafkaTransactionalProducer, kafka),
                CODEC,
                SystemClock(),
                "test",
                UploadFilter.of(WITHOUT_LAKE),
            )
        )
        self.environment = {**os.environ, **stack.environment, "SIGHTLINE_KAFKA_PREFIX": prefix}


@pytest_asyncio.fixture
async def rig(stack: LocalStack, topics: str) -> AsyncIterator[Rig]:
    rigged = Rig(stack, topics)
    yield rigged
    await rigged.parts.producer.close()


async def test_a_job_killed_in_the_middle_goes_on_where_it_was(rig: Rig) -> None:
    """Guarantee: kill -9 of a rescoring at any moment, started again, puts out each task exactly once."""
    await rig.publish(*uploads(400))
    command = (sys.executable, "-m", "app", "rescore", "start", "--from", "2020-01-01", "--rate", "40/s", "--no-wait")
    for after in (60, 200):
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=rig.environment)
        while len(await rig.tasks()) < after:
            assert process.returncode is None
        process.send_signal(signal.SIGKILL)
        await process.wait()
    half = len(await rig.tasks())
    assert half < 400
    fast = (*command[:-2], "4000/s", "--no-wait", "--json")
    last = await asyncio.create_subprocess_exec(*fast, cwd=ROOT, env=rig.environment, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(120):
        output, _ = await last.communicate()
    assert last.returncode == 0
    told = json.loads(output)
    ids = [task.upload_id for task in await rig.tasks()]
    assert len(ids) == len(set(ids)) == 400
    assert len({task.job_id for task in await rig.tasks()}) == 1
    assert (told["total"], told["enqueued"], told["outcomes"]) == (400, 400, 0)
    assert (await find_job(rig.parts, told["job"])).rate_per_second == 4000, "the rate of the last start is the job's"


async def test_a_start_that_was_killed_while_it_waited_goes_on_waiting(rig: Rig) -> None:
    """Guarantee: the same start again puts out nothing twice until every task has its outcome."""
    await rig.publish(*uploads(20))
    command = (sys.executable, "-m", "app", "rescore", "start", "--from", "2020-01-01")
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=rig.environment, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    async with asyncio.timeout(120):
        while b" waiting: 20 of 20 tasks out" not in await process.stderr.readline():
            assert process.returncode is None
    process.send_signal(signal.SIGKILL)
    await process.communicate()

    again, new = await begin_job(rig.parts, window(first=-EVENT_MS + parse_time("2020-01-01")), 0)
    assert (again.state, new) == (ENQUEUED, False)
    output = asyncio.subprocess.PIPE
    last = await asyncio.create_subprocess_exec(
        *command, "--no-wait", "--json", cwd=ROOT, env=rig.environment, stdout=output, stderr=output
    )
    async with asyncio.timeout(120):
        told, said = await last.communicate()
    assert last.returncode == 0
    assert (json.loads(told)["job"], json.loads(told)["state"]) == (again.id, "waiting")
    assert f"rescore cancel {again.id}` first to begin anew".encode() in said
    tasks = await rig.tasks()
    assert len(tasks) == 20


async def test_status_says_when_the_runner_was_heard_of(rig: Rig) -> None:
    await rig.publish(*uploads(5))
    job, _ = await begin_job(rig.parts, window(), 0.001)
    command = (sys.executable, "-m", "app", "rescore", "status")
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=rig.environment, stdout=asyncio.subprocess.PIPE
    )
    async with asyncio.timeout(60):
        output, _ = await process.communicate()
    assert f"{job.id} running".encode() in output and b"runner heard of at 20" in output


async def test_pause_resume_and_cancel(rig: Rig) -> None:
    await rig.publish(*uploads(120))
    job, new = await begin_job(rig.parts, window(), 15)
    assert new
    running = asyncio.create_task(rig.runner().run(job.id))
    await eventually(lambda: any(report.job.enqueued for report in rig.reports), 30)
    await ask(rig.parts, job, PAUSED)
    async with asyncio.timeout(30):
        paused = await running
    assert (paused.state, paused.enqueued < 120) == (PAUSED, True)
    command = (sys.executable, "-m", "app", "rescore", "pause", job.id, "--json")
    verb = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=rig.environment, stdout=asyncio.subprocess.PIPE)
    async with asyncio.timeout(60):
        output, _ = await verb.communicate()
    assert json.loads(output) == {
        "job": job.id,
        "asked_for": PAUSED,
        "total": 120,
        "enqueued": paused.enqueued,
    }
    again, new = await begin_job(rig.parts, window(), 15)
    assert (again.id, again.state, new) == (job.id, PAUSED, False)
    await ask(rig.parts, again, RUNNING)
    rig.reports.clear()
    running = asyncio.create_task(rig.runner().run(job.id))
    await eventually(lambda: any(report.job.enqueued > paused.enqueued for report in rig.reports), 30)
    await ask(rig.parts, again, CANCELLED)
    async with asyncio.timeout(30):
        cancelled = await running
    assert cancelled.state == CANCELLED
    assert len({task.upload_id for task in await rig.tasks()}) == cancelled.enqueued == len(await rig.tasks())
    with pytest.raises(ConfigurationError, match="is cancelled: nothing is left"):
        await ask(rig.parts, await find_job(rig.parts, job.id[-4:]), RUNNING)
    _, new = await begin_job(rig.parts, window(), 0)
    assert new


async def test_a_second_runner_takes_the_job_over(rig: Rig) -> None:
    """Guarantee: of two processes that run one job only the younger goes on, and each task is put out once."""
    await rig.publish(*uploads(150))
    job, _ = await begin_job(rig.parts, window(), 15)
    first = asyncio.create_task(rig.runner().run(job.id))
    await eventually(lambda: any(report.job.enqueued for report in rig.reports), 30)
    second = await RescoreRunner(rig.parts, lambda _: None).run(job.id)
    with pytest.raises(Fenced, match="another process"):
        async with asyncio.timeout(30):
            await first
    ids = [task.upload_id for task in await rig.tasks()]
    assert len(ids) == len(set(ids)) == second.enqueued == 150


async def test_a_real_bucket_is_listed_by_the_verb(rig: Rig, stack: LocalStack, names: TestNames) -> None:
    await create_bucket(stack.s3, names.bucket)
    access = stack.s3
    store = S3Settings(
        endpoint=access.endpoint,
        region=access.region,
        access_key=access.access_key,
        secret_key=Secret(access.secret_key),
    )
    async with Uploader(store) as uploader:
        for key in ("shop/a b+c.jpg", "shop/日本.jpg", "shop/z.png", "other/d.jpg", "lake/ours.parquet"):
            await uploader.put(names.bucket, key, key.encode())
    process = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "app",
            "rescore",
            "start",
            "--bucket",
            f"s3://{names.bucket}/shop/",
            "--no-wait",
            "--json",
        ),
        cwd=ROOT,
        env=rig.environment,
        stdout=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(120):
        output, _ = await process.communicate()
    assert process.returncode == 0
    assert json.loads(output)["enqueued"] == 3
    tasks = {task.key: task for task in await rig.tasks()}
    assert sorted(tasks) == ["shop/a b+c.jpg", "shop/z.png", "shop/日本.jpg"]
    for key, task in tasks.items():
        assert (task.bucket, task.lane, task.size_bytes) == (names.bucket, "backfill", len(key.encode()))
        assert task.etag is not None and len(task.etag) == 32
