"""Rescoring jobs on topics in memory: what they cover, and that none of it is lost or doubled."""

from __future__ import annotations

import asyncio
import dataclasses

import pytest

from app.domain.jobs import CANCELLED, ENQUEUED, PAUSED, RUNNER_KIND, RUNNING, JobRequest
from app.domain.policy import past_of
from app.errors import BrokerUnavailable, ConfigurationError, Fenced
from app.pipeline.control_topic import read_control
from app.ports.index import IndexEntry
from app.ports.objects import ListedObject
from app.rescoring.begin import begin_job
from app.rescoring.jobs import ask, find_job, write_control
from app.rescoring.plan import Planner
from app.rescoring.progress import Progress, status_of, with_signs
from app.rescoring.rescore import RescoreRunner
from app.topics import PREDICTIONS
from tests.support.memory.index import MemoryIndex
from tests.support.outcomes import EVENT_MS, flag_of, four_models, prediction, removal
from tests.support.rescoring import CODEC, Listing, MemoryRig, uploads, window


@pytest.fixture
def rig() -> MemoryRig:
    return MemoryRig()


async def test_the_latest_upload_of_each_image_is_one_task(rig: MemoryRig) -> None:
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


async def test_what_the_other_reading_of_a_key_found_is_left_out_once_its_removal_came_that_way(rig: MemoryRig) -> None:
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


async def test_a_job_carries_models_and_force(rig: MemoryRig) -> None:
    await rig.publish(*uploads(2))
    await rig.run(window(models=("quality@2",), force=True))
    assert {(task.models, task.force) for task in await rig.tasks()} == {(("quality@2",), True)}


async def test_what_moderate_had_decided_travels_along(rig: MemoryRig) -> None:
    flagged, clean = uploads(2)
    await rig.publish(flagged, clean, flag_of(flagged))
    ends = await rig.memory.ends(PREDICTIONS)
    job, _ = await begin_job(rig.parts, window(), 0)
    planner = Planner(rig.memory, CODEC, job, ends)
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
    undecided = await Planner(rig.memory, CODEC, job, {}).plan(0)
    assert set(undecided.chosen.values()) == {None}


async def test_slices_cover_every_image_once(rig: MemoryRig) -> None:
    await rig.publish(*uploads(60))
    job, _ = await begin_job(rig.parts, window(), 0)
    sliced = dataclasses.replace(job, slices=7)
    await write_control(rig.parts, "job", job.id, sliced.to_json())
    done = await rig.runner().run(job.id)
    assert done.enqueued == 60
    assert len({task.upload_id for task in await rig.tasks()}) == 60


async def test_a_job_is_over_with_its_last_outcome_when_it_is_cancelled_and_when_its_tasks_are_lost(
    rig: MemoryRig,
) -> None:
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
    out = await rig.runner().run(second.id)
    with pytest.raises(ConfigurationError, match="is enqueued: nothing is left"):
        await ask(rig.parts, out, PAUSED)
    # Longer than the backfill topic keeps a task.
    rig.clock.advance(8 * 86_400)
    third, new = await begin_job(rig.parts, window(), 0)
    assert new
    out = await rig.runner().run(third.id)
    assert (await begin_job(rig.parts, window(), 0)) == (out, False)
    await ask(rig.parts, out, CANCELLED)
    assert (await find_job(rig.parts, out.id)).state == CANCELLED
    _, new = await begin_job(rig.parts, window(), 0)
    assert new


async def test_a_job_goes_on_at_the_rate_that_is_asked_for(rig: MemoryRig) -> None:
    await rig.publish(*uploads(100))
    job, _ = await begin_job(rig.parts, window(), 0.001)
    running = asyncio.create_task(rig.runner().run(job.id))
    await rig.until(lambda: any(report.job.enqueued for report in rig.reports))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    again = asyncio.create_task(rig.runner().run(job.id, 50.0))
    began = rig.clock.monotonic()
    await rig.until(again.done)
    assert ((await again).enqueued, (await again).rate_per_second) == (100, 50.0)
    assert 1 <= rig.clock.monotonic() - began < 5
    assert (await find_job(rig.parts, job.id)).rate_per_second == 50.0


async def test_a_job_that_nobody_runs_differs_from_one_that_is_slow(rig: MemoryRig) -> None:
    await rig.publish(*uploads(5))
    job, _ = await begin_job(rig.parts, window(), 0.001)
    asked = [Progress(job, job.state, -1, -1, 0.0, None)]
    rig.clock.advance(60)
    (begun,) = await with_signs(rig.parts, asked)
    assert begun.last_sign_ms is not None and begun.no_runner_since_ms == begun.last_sign_ms
    running = asyncio.create_task(rig.runner().run(job.id))
    await rig.until(lambda: any(report.job.enqueued for report in rig.reports))
    (alive,) = await with_signs(rig.parts, asked)
    assert alive.no_runner_since_ms is None
    assert alive.last_sign_ms is not None and alive.last_sign_ms >= begun.last_sign_ms + 60_000
    assert await read_control(rig.memory, CODEC, RUNNER_KIND), "it signs between its chunks too"
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_pause_resume_and_cancel(rig: MemoryRig) -> None:
    await rig.publish(*uploads(120))
    job, new = await begin_job(rig.parts, window(), 15)
    assert new
    running = asyncio.create_task(rig.runner().run(job.id))
    await rig.until(lambda: any(report.job.enqueued for report in rig.reports))
    await ask(rig.parts, job, PAUSED)
    await rig.until(running.done)
    paused = await running
    assert (paused.state, 0 < paused.enqueued < 120) == (PAUSED, True)
    again, new = await begin_job(rig.parts, window(), 15)
    assert (again.id, again.state, new) == (job.id, PAUSED, False)
    await ask(rig.parts, again, RUNNING)
    rig.reports.clear()
    running = asyncio.create_task(rig.runner().run(job.id))
    await rig.until(lambda: any(report.job.enqueued > paused.enqueued for report in rig.reports))
    await ask(rig.parts, again, CANCELLED)
    await rig.until(running.done)
    cancelled = await running
    assert (cancelled.state, cancelled.enqueued < 120) == (CANCELLED, True)
    assert len({task.upload_id for task in await rig.tasks()}) == cancelled.enqueued == len(await rig.tasks())
    with pytest.raises(ConfigurationError, match="is cancelled: nothing is left"):
        await ask(rig.parts, await find_job(rig.parts, job.id[-4:]), RUNNING)
    _, new = await begin_job(rig.parts, window(), 0)
    assert new


async def test_a_second_runner_takes_the_job_over(rig: MemoryRig) -> None:
    """Guarantee: of two processes that run one job only the younger goes on, and each task is put out once."""
    await rig.publish(*uploads(150))
    job, _ = await begin_job(rig.parts, window(), 15)
    first = asyncio.create_task(rig.runner().run(job.id))
    await rig.until(lambda: any(report.job.enqueued for report in rig.reports))
    second = asyncio.create_task(RescoreRunner(rig.parts, lambda _: None).run(job.id))
    await rig.until(lambda: first.done() and second.done())
    with pytest.raises(Fenced, match="another process"):
        await first
    ids = [task.upload_id for task in await rig.tasks()]
    assert len(ids) == len(set(ids)) == (await second).enqueued == 150


async def test_a_broker_that_comes_back_finds_the_job_where_it_was(rig: MemoryRig) -> None:
    """Guarantee: over an outage of the broker each task is put out once."""
    await rig.publish(*uploads(120))
    job, _ = await begin_job(rig.parts, window(), 15)
    running = asyncio.create_task(rig.runner().run(job.id))
    await rig.until(lambda: any(report.job.enqueued for report in rig.reports))
    rig.memory.disconnect()
    until = rig.clock.monotonic() + 60
    await rig.until(lambda: rig.clock.monotonic() > until)
    assert not running.done()
    rig.memory.connect()
    await rig.until(running.done)
    ids = [task.upload_id for task in await rig.tasks()]
    assert len(ids) == len(set(ids)) == (await running).enqueued == 120


async def test_a_broker_that_stays_away_ends_the_runner(rig: MemoryRig) -> None:
    await rig.publish(*uploads(30))
    job, _ = await begin_job(rig.parts, window(), 15)
    running = asyncio.create_task(rig.runner().run(job.id))
    await rig.until(lambda: any(report.job.enqueued for report in rig.reports))
    rig.memory.disconnect()
    await rig.until(running.done)
    with pytest.raises(BrokerUnavailable):
        await running


async def test_outcomes_of_the_job_are_counted(rig: MemoryRig) -> None:
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


async def test_a_bucket_is_listed_with_what_the_index_knows(rig: MemoryRig) -> None:
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
