"""Rescoring jobs on a real broker: what they cover, and that nothing of them is lost or doubled."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.domain.filters import UploadFilter
from app.domain.identity import image_key
from app.domain.jobs import CANCELLED, ENQUEUED, PAUSED, RUNNER_KIND, RUNNING, Job, JobRequest, parse_time
from app.domain.policy import past_of
from app.errors import ConfigurationError, Fenced
from app.ports.index import IndexEntry
from app.ports.objects import FetchedObject, ListedObject, ObjectMissing, ObjectRef
from app.rescoring.begin import begin_job
from app.rescoring.jobs import RescoreParts, ask, find_job, write_control
from app.rescoring.plan import Planner
from app.rescoring.progress import Progress, status_of, with_signs
from app.rescoring.rescore import RescoreRunner
from app.settings import ROOT, KafkaSettings, S3Settings, Secret
from app.stack.local import LocalStack
from app.systems.clock import SystemClock
from app.systems.kafka.client import KafkaProducer, TopicScanner
from app.systems.kafka.control_topic import read_control
from app.systems.registry.avro import Codec
from app.systems.s3.admin import create_bucket
from app.systems.s3.put import Uploader
from app.topics import BACKFILL, FLAGGED, PREDICTIONS, REMOVED
from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved, ImageTask
from tests.support.eventually import eventually
from tests.support.ingest import WITHOUT_LAKE
from tests.support.memory.index import MemoryIndex
from tests.support.outcomes import EVENT_MS, flag_of, four_models, prediction, removal
from tests.support.stack import TEST_PARTITIONS, TestNames

pytestmark = pytest.mark.services
CODEC = Codec()
TOPIC_OF = {ImagePrediction: PREDICTIONS, ImageRemoved: REMOVED, FlaggedImage: FLAGGED}


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


class LaterClock(SystemClock):
    """The system's clock, ahead by so many milliseconds."""

    def __init__(self, ahead_ms: int) -> None:
        self._ahead_ms = ahead_ms

    def now_ms(self) -> int:
        return super().now_ms() + self._ahead_ms


class Rig:
    def __init__(self, stack: LocalStack, prefix: str) -> None:
        self.kafka = KafkaSettings(bootstrap=stack.kafka, prefix=prefix, partitions=TEST_PARTITIONS)
        self.parts = RescoreParts(
            self.kafka,
            CODEC,
            SystemClock(),
            "test",
            UploadFilter.of(WITHOUT_LAKE),
        )
        self.scanner = TopicScanner(self.kafka)
        self.reports: list[Progress] = []
        self.environment = {**os.environ, **stack.environment, "SIGHTLINE_KAFKA_PREFIX": prefix}

    async def publish(self, *facts: ImagePrediction | ImageRemoved | FlaggedImage) -> None:
        producer = KafkaProducer(self.kafka)
        await producer.send_batch(
            [(TOPIC_OF[type(fact)], image_key(fact.bucket, fact.key), CODEC.encode(fact)) for fact in facts]
        )
        await producer.close()

    async def tasks(self) -> list[ImageTask]:
        return [CODEC.decode_as(record.value, ImageTask) async for record in self.scanner.scan(BACKFILL)]

    async def run(self, request: JobRequest, rate: float = 0.0) -> Job:
        job, _ = await begin_job(self.parts, request, rate)
        return await RescoreRunner(self.parts, self.reports.append).run(job.id)


@pytest.fixture
def rig(stack: LocalStack, topics: str) -> Rig:
    return Rig(stack, topics)


def window(first: int = 0, last: int | None = None, **changes: Any) -> JobRequest:
    request = JobRequest(EVENT_MS + first, None if last is None else EVENT_MS + last, "", "", (), False)
    return dataclasses.replace(request, **changes)


def uploads(count: int) -> list[ImagePrediction]:
    return [
        prediction(order=number + 1, key=f"shop/{number:05d}.jpg", sha256=f"{number:064x}") for number in range(count)
    ]


async def test_the_latest_upload_of_each_image_is_one_task(rig: Rig) -> None:
    plain = prediction(order=10, key="plain.jpg")
    old, new = prediction(order=11, key="twice.jpg"), prediction(order=12, key="twice.jpg", sha256="a" * 64)
    await rig.publish(
        plain,
        new,
        old,
        prediction(order=5, key="before-the-window.jpg"),
        prediction(order=95, key="after-the-window.jpg"),
        prediction(order=13, key="overwritten-later.jpg"),
        prediction(order=95, key="overwritten-later.jpg"),
        prediction(order=14, key="removed.jpg"),
        removal(order=20, key="removed.jpg"),
        removal(order=15, key="put-again.jpg"),
        prediction(order=16, key="put-again.jpg"),
        prediction(order=17, key="gone.jpg", outcome="gone", scores=(), sha256=None),
    )
    job = await rig.run(window(10, 90))
    tasks = {task.key: task for task in await rig.tasks()}
    assert set(tasks) == {"plain.jpg", "twice.jpg", "put-again.jpg"}
    assert (job.state, job.enqueued, job.total, job.skipped) == (ENQUEUED, 3, 3, 1)
    task = tasks["twice.jpg"]
    assert task.known_sha256 == "a" * 64
    assert (task.dialect, task.order_key, task.event_time_ms) == (new.dialect, new.order_key, new.event_time_ms)
    assert (task.job_id, task.lane, task.attempt) == (job.id, "backfill", 1)
    assert task.previous == new.scores
    assert task.upload_id not in (old.upload_id, new.upload_id)


async def test_what_the_other_reading_of_a_key_found_is_left_out_once_its_removal_came_that_way(rig: Rig) -> None:
    await rig.publish(
        prediction(order=10, key="removed.jpg", event_key="removed%2Ejpg"),
        removal(order=11, key="removed.jpg", event_key="removed%2Ejpg"),
        # The removal of another object, whose key may be read as this one's.
        prediction(order=12, key="alive.jpg"),
        removal(order=13, key="alive.jpg", event_key="alive%2Ejpg"),
        prediction(order=14, key="twice.jpg"),
        prediction(order=15, key="twice.jpg", event_key="twice%2Ejpg"),
        prediction(order=16, key="kept.jpg", event_key="kept%2Ejpg", superseded=True),
        prediction(order=17, key="left.jpg"),
        prediction(order=18, key="left.jpg", event_key="left%2Ejpg"),
        removal(order=19, key="left.jpg", event_key="left%2Ejpg"),
    )
    job = await rig.run(window(10, 90))
    tasks = {task.key: (task.event_key, task.superseded) for task in await rig.tasks()}
    assert tasks == {
        "alive.jpg": (None, False),
        "twice.jpg": ("twice%2Ejpg", False),
        "kept.jpg": ("kept%2Ejpg", True),
        "left.jpg": (None, False),
    }
    assert (job.enqueued, job.skipped) == (4, 1)


async def test_a_job_carries_models_and_force(rig: Rig) -> None:
    await rig.publish(*uploads(2))
    await rig.run(window(models=("quality@2",), force=True))
    assert {(task.models, task.force) for task in await rig.tasks()} == {(("quality@2",), True)}


async def test_what_moderate_had_decided_travels_along(rig: Rig) -> None:
    flagged, clean = uploads(2)
    await rig.publish(flagged, clean, flag_of(flagged))
    ends = await rig.scanner.ends(PREDICTIONS)
    job, _ = await begin_job(rig.parts, window(), 0)
    planner = Planner(rig.scanner, CODEC, job, ends)
    plan = await planner.plan(0)
    verdicts = []
    async for record in planner.predictions(()):
        before = plan.chosen[record.partition, record.offset]
        assert before is not None
        past = past_of((before,))
        found = planner.read(record)
        assert found is not None
        verdicts.append((found.key, past.action, past.rules))
    assert sorted(verdicts) == [(flagged.key, "block", ("nsfw-block",)), (clean.key, "none", ())]
    # Where moderate has not come to, nothing is claimed of its verdict.
    undecided = await Planner(rig.scanner, CODEC, job, {}).plan(0)
    assert set(undecided.chosen.values()) == {None}


async def test_slices_cover_every_image_once(rig: Rig) -> None:
    await rig.publish(*uploads(60))
    job, _ = await begin_job(rig.parts, window(), 0)
    sliced = dataclasses.replace(job, slices=7)
    await write_control(rig.parts, "job", job.id, sliced.to_json())
    done = await RescoreRunner(rig.parts, rig.reports.append).run(job.id)
    assert done.enqueued == 60
    assert len({task.upload_id for task in await rig.tasks()}) == 60


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


async def test_a_job_is_over_with_its_last_outcome_when_it_is_cancelled_and_when_its_tasks_are_lost(rig: Rig) -> None:
    await rig.publish(*uploads(3))
    first = await rig.run(window())
    outcomes = [
        prediction(key=task.key, upload_id=task.upload_id, job_id=first.id, sha256=None) for task in await rig.tasks()
    ]
    await rig.publish(*outcomes[:2])
    assert (await begin_job(rig.parts, window(), 0)) == (first, False)
    await rig.publish(outcomes[2])
    second, new = await begin_job(rig.parts, window(), 0)
    assert new and second.id != first.id
    out = await RescoreRunner(rig.parts, rig.reports.append).run(second.id)
    with pytest.raises(ConfigurationError, match="is enqueued: nothing is left"):
        await ask(rig.parts, out, PAUSED)
    later = dataclasses.replace(rig.parts, clock=LaterClock(8 * 86_400_000))
    third, new = await begin_job(later, window(), 0)
    assert new
    out = await RescoreRunner(rig.parts, rig.reports.append).run(third.id)
    assert (await begin_job(rig.parts, window(), 0)) == (out, False)
    await ask(rig.parts, out, CANCELLED)
    assert (await find_job(rig.parts, out.id)).state == CANCELLED
    _, new = await begin_job(rig.parts, window(), 0)
    assert new


async def test_a_job_goes_on_at_the_rate_that_is_asked_for(rig: Rig) -> None:
    await rig.publish(*uploads(100))
    job, _ = await begin_job(rig.parts, window(), 0.001)
    running = asyncio.create_task(RescoreRunner(rig.parts, rig.reports.append).run(job.id))
    await eventually(lambda: any(report.job.enqueued for report in rig.reports), 30)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    async with asyncio.timeout(60):
        done = await RescoreRunner(rig.parts, rig.reports.append).run(job.id, 5000.0)
    assert (done.enqueued, done.rate_per_second) == (100, 5000.0)
    assert (await find_job(rig.parts, job.id)).rate_per_second == 5000.0


async def test_status_tells_a_job_that_nobody_runs_from_one_that_is_slow(rig: Rig) -> None:
    await rig.publish(*uploads(5))
    job, _ = await begin_job(rig.parts, window(), 0.001)
    asked = [Progress(job, job.state, -1, -1, 0.0, None)]
    later = dataclasses.replace(rig.parts, clock=LaterClock(60_000))
    (begun,) = await with_signs(later, asked)
    assert begun.last_sign_ms is not None and begun.no_runner_since_ms == begun.last_sign_ms
    # The runner's clock is the later one too: what it said last was said now, long after the job's own record.
    running = asyncio.create_task(RescoreRunner(later, rig.reports.append).run(job.id))
    await eventually(lambda: any(report.job.enqueued for report in rig.reports), 30)
    (alive,) = await with_signs(later, asked)
    assert alive.no_runner_since_ms is None
    assert alive.last_sign_ms is not None and alive.last_sign_ms > begun.last_sign_ms + 30_000
    assert await read_control(rig.scanner, CODEC, RUNNER_KIND), "it speaks between its chunks too"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
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
    running = asyncio.create_task(RescoreRunner(rig.parts, rig.reports.append).run(job.id))
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
    running = asyncio.create_task(RescoreRunner(rig.parts, rig.reports.append).run(job.id))
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
    first = asyncio.create_task(RescoreRunner(rig.parts, rig.reports.append).run(job.id))
    await eventually(lambda: any(report.job.enqueued for report in rig.reports), 30)
    second = await RescoreRunner(rig.parts, lambda _: None).run(job.id)
    with pytest.raises(Fenced, match="another process"):
        async with asyncio.timeout(30):
            await first
    ids = [task.upload_id for task in await rig.tasks()]
    assert len(ids) == len(set(ids)) == second.enqueued == 150


async def test_outcomes_of_the_job_are_counted(rig: Rig) -> None:
    await rig.publish(*uploads(5))
    job = await rig.run(window())
    assert (await status_of(rig.parts, job)).phase == "waiting"
    tasks = await rig.tasks()
    await rig.publish(
        *(
            prediction(key=task.key, upload_id=task.upload_id, job_id=job.id, sha256=task.known_sha256)
            for task in tasks
        ),
        prediction(key="a-live-one.jpg"),
    )
    done = await RescoreRunner(rig.parts, rig.reports.append).wait_for_outcomes(job)
    assert (done.phase, done.outcomes, done.dead_letters) == ("done", 5, 0)


async def test_a_bucket_is_listed_with_what_the_index_knows(rig: Rig) -> None:
    known = prediction(order=3, key="shop/known.jpg", etag="e1")
    changed = prediction(order=4, key="shop/overwritten.jpg", etag="e2")
    index = MemoryIndex()
    await index.apply([IndexEntry(fact, b"") for fact in (known, flag_of(known), changed)])
    listed = [
        ListedObject("images", "lake/ours.parquet", "e9", 10, EVENT_MS),
        ListedObject("images", "shop/known.jpg", "e1", 10, EVENT_MS),
        ListedObject("images", "shop/new.jpg", "e3", 30, EVENT_MS + 7),
        ListedObject("images", "shop/overwritten.jpg", "e4", 20, EVENT_MS + 9),
    ]
    rig.parts = dataclasses.replace(rig.parts, store=Listing(*listed), index=index)
    job = await rig.run(JobRequest(None, None, "images", "", (), False))
    tasks = {task.key: task for task in await rig.tasks()}
    assert (job.state, job.total, sorted(tasks)) == (
        ENQUEUED,
        3,
        ["shop/known.jpg", "shop/new.jpg", "shop/overwritten.jpg"],
    )
    assert tasks["shop/known.jpg"].known_sha256 == known.sha256
    assert tasks["shop/known.jpg"].order_key == known.order_key
    assert past_of(tasks["shop/known.jpg"].previous).action == "block"
    assert tasks["shop/known.jpg"].previous[: len(known.scores)] == four_models()
    fresh = tasks["shop/new.jpg"]
    assert (fresh.known_sha256, fresh.previous, fresh.event_time_ms) == (None, (), EVENT_MS + 7)
    assert tasks["shop/overwritten.jpg"].known_sha256 is None


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
