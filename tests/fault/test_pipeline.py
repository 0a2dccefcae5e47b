"""The whole pipeline while its processes and its broker are killed; the ledger says what was lost or doubled."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from app.demo.photographs import packaged_photographs
from app.demo.pictures import Picture, made_pictures
from app.errors import StartupRefused
from app.stack.local import KAFKA, LocalStack
from app.stack.options import StackOptions
from tests.support.eventually import eventually
from tests.support.stack import TEST_PARTITIONS, TestNames, skip_without_services
from tests.support.whole_pipeline import WholePipeline, check_clean, nsfw_settings, whole_pipeline

UPLOADS = 300
KILLS = 6
pytestmark = pytest.mark.timeout(900)


def _pictures(count: int = UPLOADS) -> Iterator[Picture]:
    return made_pictures(count, seed=5, prefix="shop/", photographs=packaged_photographs())


async def test_kill_of_identify_and_score_workers_at_random_moments_loses_and_doubles_no_upload(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    """Guarantee: kill -9 of any of two identify and two score workers at any moment leaves one outcome per upload."""
    generator = random.Random()
    async with whole_pipeline(stack, names, tmp_path, settings=nsfw_settings(tmp_path)) as pipeline:
        pipeline.start("bridge", "bridge", "sqs")
        pipeline.start_workers(("moderate",))
        pipeline.start_workers(("identify", "score"), count=2)
        victims = [f"{agent}-{number}" for agent in ("identify", "score") for number in range(2)]
        uploading = asyncio.create_task(pipeline.upload(_pictures(), at_once=1))
        # Moments among uploads that are being scored: a kill of idle processes would prove nothing.
        for wanted in sorted(generator.sample(range(1, UPLOADS * 3 // 4), KILLS)):
            await eventually(partial(pipeline.published, wanted), 180, every_seconds=0.2)
            victim = pipeline.processes[generator.choice(victims)]
            await victim.end(signal.SIGKILL)
            victim.start()
        sent = await uploading
        await check_clean(pipeline, sent)


async def test_broker_killed_under_uploads_through_the_queue_loses_and_doubles_no_upload(
    tmp_path: Path, names: TestNames
) -> None:
    """Guarantee: what is uploaded while the broker is away waits in the queue; workers exit, come back and go on."""
    async with (
        _own_stack(tmp_path, names) as stack,
        whole_pipeline(stack, names, tmp_path, settings=nsfw_settings(tmp_path)) as pipeline,
    ):
        pipeline.start("bridge", "bridge", "sqs")
        pipeline.start_workers(("identify", "score", "moderate"), restart=True)
        uploading = asyncio.create_task(pipeline.upload(_pictures(), at_once=1))
        await eventually(partial(pipeline.published, UPLOADS // 6), 180, every_seconds=0.3)
        await stack.kill(KAFKA)
        # All the others go up while there is no broker.
        sent = await uploading
        await stack.restart(KAFKA)
        await check_clean(pipeline, sent)


async def test_notifications_lost_with_the_broker_are_found_by_reconcile(tmp_path: Path, names: TestNames) -> None:
    """Guarantee: objects whose notification a store lost get their outcome, once, when reconcile has listed them."""
    async with _own_stack(tmp_path, names) as stack:
        try:
            access = await stack.add_versitygw("versitygw-lossy", f"{names.prefix}s3.uploads", names.bucket)
        except StartupRefused as refusal:
            skip_without_services(str(refusal))
            raise
        settings = nsfw_settings(tmp_path)
        async with whole_pipeline(stack, names, tmp_path, versitygw=access, settings=settings) as pipeline:
            pipeline.start_workers(("identify", "score", "moderate"), restart=True)
            pictures = list(_pictures(90))
            sent = await pipeline.upload(pictures[:30])
            await eventually(partial(pipeline.published, 30), 180, every_seconds=0.3)
            await stack.kill(KAFKA)
            # The store answers 200 and drops its notifications (measured: 5 of 5).
            sent += await pipeline.upload(pictures[30:60], at_once=1)
            await stack.restart(KAFKA)
            sent += await pipeline.upload(pictures[60:])
            # Reconcile leaves objects alone whose notification may yet come: those of the last minute.
            await eventually(partial(_reconciled, pipeline, len(sent)), 240, every_seconds=5)
            await check_clean(pipeline, sent)


async def _reconciled(pipeline: WholePipeline, uploads: int) -> bool:
    code, output = await pipeline.verb("reconcile", f"s3://{pipeline.bucket}", "--older-than", "1m", "--yes")
    assert code == 0, output
    return int((await pipeline.audit(10)).ledger["outcomes"]) == uploads


def _own_stack(folder: Path, names: TestNames) -> LocalStack:
    """A stack of this test alone: its broker is killed."""
    return LocalStack(
        StackOptions(
            var_dir=folder / "stack", partitions=TEST_PARTITIONS, topic_prefix=names.prefix, with_registry=False
        )
    )
