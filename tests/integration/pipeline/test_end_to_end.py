"""The main job on real servers with the real models: uploads in, predictions, flags and index out, the ledger clean."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pytest

from app.demo.photographs import packaged_photographs
from app.demo.pictures import made_pictures
from app.inference.registry import choose_active, find_manifests
from app.settings import InferenceSettings
from app.stack.local import LocalStack
from app.systems.s3.admin import StoreAccess
from schemas.records import ImagePrediction
from tests.support.eventually import eventually
from tests.support.stack import TestNames
from tests.support.whole_pipeline import WholePipeline, expected_outcome, whole_pipeline

IMAGES = 70
pytestmark = pytest.mark.timeout(600)


async def test_uploads_through_sqs_and_the_bridge_become_outcomes_flags_and_index(
    stack: LocalStack, topics: str, names: TestNames, tmp_path: Path
) -> None:
    async with whole_pipeline(stack, names, tmp_path) as pipeline:
        pipeline.start("bridge", "bridge", "sqs")
        await _main_job(pipeline)


async def test_uploads_to_versitygw_which_notifies_kafka_itself_become_outcomes_flags_and_index(
    stack: LocalStack, topics: str, names: TestNames, versitygw: StoreAccess, tmp_path: Path
) -> None:
    async with whole_pipeline(stack, names, tmp_path, versitygw=versitygw) as pipeline:
        await _main_job(pipeline)


async def _main_job(pipeline: WholePipeline) -> None:
    pipeline.start_workers()
    made = list(made_pictures(IMAGES, seed=11, prefix="shop/", photographs=packaged_photographs()))
    # Re-uploads come when their bytes are known: hits are then certain, not a race.
    first = await pipeline.upload(picture for picture in made if picture.repeats is None)
    audit = await pipeline.audit(240)
    assert audit.clean(len(first)), f"{audit}\n{pipeline.logs()}"
    again = await pipeline.upload(picture for picture in made if picture.repeats is not None)
    audit = await pipeline.audit(120)
    assert audit.clean(IMAGES), f"{audit}\n{pipeline.logs()}"

    outcomes = {outcome.key: outcome for outcome in await pipeline.predictions()}
    assert len(outcomes) == IMAGES
    for picture in made:
        outcome = outcomes[picture.key]
        assert outcome.outcome in expected_outcome(picture), f"{picture.key}: {outcome.outcome} {outcome.reason}"
        assert outcome.reason if outcome.outcome == "rejected" else outcome.sha256 is not None
        if outcome.sha256 is not None:
            assert outcome.sha256 == hashlib.sha256(picture.body).hexdigest()
    _check_scores(outcomes)
    assert all(outcomes[picture.key].cached for picture in again)
    assert not any(outcomes[picture.key].cached for picture in first)
    for picture in again:
        assert picture.repeats is not None
        assert _values(outcomes[picture.key]) == _values(outcomes[picture.repeats])

    await _check_flags(pipeline, outcomes)
    await _check_index(pipeline, outcomes)


def _check_scores(outcomes: dict[str, ImagePrediction]) -> None:
    active = choose_active(find_manifests(InferenceSettings().models_dir), None)
    models = {manifest.name: manifest.version for manifest in active}
    assert {"nsfw", "category", "quality", "embedded_text"} <= set(models)
    for outcome in outcomes.values():
        if outcome.outcome == "scored":
            assert {scores.model: scores.version for scores in outcome.scores} == models
            assert all(0.0 <= label.value <= 1.0 for scores in outcome.scores for label in scores.labels)


async def _check_flags(pipeline: WholePipeline, outcomes: dict[str, ImagePrediction]) -> None:
    """Every flag belongs to an outcome of ours, once, and tells what it rests on."""
    await eventually(lambda: _moderated(pipeline, outcomes), 60, every_seconds=0.5)
    flags = await pipeline.flags()
    assert flags
    assert max(Counter(flag.upload_id for flag in flags).values()) == 1
    for flag in flags:
        outcome = outcomes[flag.key]
        assert flag.upload_id == outcome.upload_id
        assert flag.state == "flagged"
        values = {(one.model, label.label): label.value for one in outcome.scores for label in one.labels}
        assert flag.rules
        for match in flag.rules:
            assert match.explanation
            for condition in match.conditions:
                if condition.model == "outcome":
                    assert condition.label == f"{outcome.outcome} {outcome.reason}"
                else:
                    assert values[condition.model, condition.label] == pytest.approx(condition.value)


async def _moderated(pipeline: WholePipeline, outcomes: dict[str, ImagePrediction]) -> bool:
    """Whether pictures with text laid over them were flagged: the sign that moderate has come so far."""
    written = [key for key in outcomes if "-written-on" in key]
    flagged = {flag.key for flag in await pipeline.flags()}
    return bool(written) and any(key in flagged for key in written)


async def _check_index(pipeline: WholePipeline, outcomes: dict[str, ImagePrediction]) -> None:
    """The index holds the outcome of every image, and forgets one that is deleted."""
    index = pipeline.index()
    try:

        async def complete() -> bool:
            found = [await index.image(pipeline.bucket, key) for key in outcomes]
            return all(image is not None and image.prediction is not None for image in found)

        await eventually(complete, 60, every_seconds=0.5, message="index")
        for key, outcome in outcomes.items():
            image = await index.image(pipeline.bucket, key)
            assert image is not None and image.prediction == outcome
        gone = next(key for key, outcome in outcomes.items() if outcome.outcome == "scored")
        await pipeline.delete(gone)

        async def removed() -> bool:
            image = await index.image(pipeline.bucket, gone)
            return image is not None and image.prediction is None and image.removed_at_ms is not None

        await eventually(removed, 60, every_seconds=0.5, message="removal")
    finally:
        await index.close()


def _values(outcome: ImagePrediction) -> dict[tuple[str, str, str], float]:
    return {
        (scores.model, scores.version, label.label): label.value for scores in outcome.scores for label in scores.labels
    }
