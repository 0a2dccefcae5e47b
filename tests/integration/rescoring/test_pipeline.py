"""Rescoring through real workers: a changed policy shows as changed flags, and takes them back again."""

from __future__ import annotations

import json
import signal
from contextlib import aclosing
from pathlib import Path

import pytest

from app.demo.photographs import packaged_photographs
from app.demo.pictures import made_pictures
from app.ports.topics import of_topic
from app.stack.local import LocalStack
from app.systems.kafka.groups import KafkaGroups
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.s3.admin import StoreAccess
from app.topics import PREDICTIONS
from schemas.records import FlaggedImage, ImagePrediction
from tests.support.eventually import eventually
from tests.support.stack import TestNames
from tests.support.whole_pipeline import NSFW_ONLY, WholePipeline, whole_pipeline

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
IMAGES = 20
POLICY = """
policy: test
version: {version}
rules:
  - {{id: any-picture, action: review, severity: 50, when: {{model: nsfw, label: nsfw, op: "{op}", threshold: 0}}}}
"""


async def moderated(pipeline: WholePipeline) -> bool:
    """Whether `moderate` has decided on every outcome that there is."""
    settings = pipeline.settings.kafka
    # Not against the ends: markers of transactions lie behind the last record.
    last: dict[int, int] = {}
    async with aclosing(KafkaTopicLog(settings).scan(PREDICTIONS)) as records:
        async for record in records:
            last[record.partition] = record.offset
    group = "sightline.moderate"
    decided = of_topic((await KafkaGroups(settings).committed((group,)))[group], PREDICTIONS)
    return all(decided.get(partition, 0) > offset for partition, offset in last.items())


async def rescored(
    pipeline: WholePipeline, name: str, policy: Path
) -> tuple[list[ImagePrediction], list[FlaggedImage]]:
    """Moderate by `policy` from here on, rescore everything, and return the outcomes and flags of that job."""
    pipeline.start(name, "worker", "moderate", POLICY_PATH=str(policy), WORKER_ID=name)
    code, output = await pipeline.verb("rescore", "start", "--from", "2020-01-01", "--json")
    assert code == 0, f"{output}\n{pipeline.logs()}"
    told = json.loads(output.splitlines()[-1])
    assert (told["state"], told["outcomes"], told["dead_letters"]) == ("done", told["enqueued"], 0)
    await eventually(lambda: moderated(pipeline), 120, every_seconds=1.0, message=pipeline.logs())
    await pipeline.processes[name].end(signal.SIGTERM)
    outcomes = [outcome for outcome in await pipeline.predictions() if outcome.job_id == told["job"]]
    assert len(outcomes) == told["enqueued"]
    return outcomes, [flag for flag in await pipeline.flags() if flag.job_id == told["job"]]


async def test_a_changed_policy_flags_and_clears_what_was_scored_before(
    stack: LocalStack, topics: str, names: TestNames, versitygw: StoreAccess, tmp_path: Path
) -> None:
    """Guarantee: a rescoring answers from known scores and publishes exactly the verdicts that changed."""
    strict, lenient = tmp_path / "strict.yaml", tmp_path / "lenient.yaml"
    strict.write_text(POLICY.format(version=2, op=">="))
    lenient.write_text(POLICY.format(version=1, op="<"))
    async with whole_pipeline(stack, names, tmp_path, versitygw=versitygw, settings=NSFW_ONLY) as pipeline:
        pipeline.start_workers(("identify", "score", "index"))
        pipeline.start("lenient", "worker", "moderate", POLICY_PATH=str(lenient), WORKER_ID="lenient")
        made = await pipeline.upload(made_pictures(IMAGES, seed=5, prefix="shop/", photographs=packaged_photographs()))
        audit = await pipeline.audit(240)
        assert audit.clean(len(made)), f"{audit}\n{pipeline.logs()}"
        await eventually(lambda: moderated(pipeline), 120, every_seconds=1.0, message=pipeline.logs())
        await pipeline.processes["lenient"].end(signal.SIGTERM)
        assert await pipeline.flags() == []
        scored = {outcome.key for outcome in await pipeline.predictions() if outcome.outcome == "scored"}
        assert len(scored) > IMAGES / 2

        outcomes, flags = await rescored(pipeline, "strict", strict)
        assert {outcome.key for outcome in outcomes if outcome.outcome == "scored"} == scored
        for outcome in outcomes:
            if outcome.outcome == "scored":
                assert (outcome.cached, outcome.timings.fetch_ms) == (True, 0)
        assert {flag.key for flag in flags} == scored and len(flags) == len(scored)
        for flag in flags:
            assert (flag.state, flag.action, flag.changed, flag.previous_action) == ("flagged", "review", True, "none")

        _, again = await rescored(pipeline, "strict-again", strict)
        assert again == []

        _, cleared = await rescored(pipeline, "lenient-again", lenient)
        assert {flag.key for flag in cleared} == scored and len(cleared) == len(scored)
        assert {(flag.state, flag.previous_action) for flag in cleared} == {("cleared", "review")}
        audit = await pipeline.audit(60)
        assert audit.exit_code == 0, audit

        index = pipeline.index()
        key = sorted(scored)[0]
        try:
            found = await index.image(pipeline.bucket, key)
        finally:
            await index.close()
        assert found is not None and found.prediction is not None and found.flag is not None
        assert found.prediction.job_id is not None
        assert found.flag.state == "cleared"
        code, story = await pipeline.verb("explain", f"s3://{pipeline.bucket}/{key}")
        assert code == 0
        assert story.count("cleared none") >= 1 and "before: review" in story
