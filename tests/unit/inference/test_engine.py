"""The engine on toy models: what runs, in which batches, in which order."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from app.domain.batching import Priority
from app.domain.images import Rejection, RejectReason
from app.domain.renditions import square_count
from app.inference.budget import Ticket
from app.inference.embedding import QuantisedEmbedding
from app.inference.engine import Engine, EngineScores
from app.inference.manifest import Combine, logit
from app.settings import EngineSettings, InferenceSettings, LimitSettings
from schemas.records import ModelScores
from tests.support.decoding.inline import InlineDecoding
from tests.support.eventually import eventually
from tests.support.pictures import encoded, jpeg, plain
from tests.support.toy_models import ToyModels

RED, GREEN = jpeg((250, 0, 0)), jpeg((0, 250, 0))


@pytest.fixture
def models() -> ToyModels:
    return ToyModels()


@pytest_asyncio.fixture
async def engine(models: ToyModels) -> AsyncIterator[Engine]:
    made = Engine(models.registry, LimitSettings(), InferenceSettings(), EngineSettings(), InlineDecoding())
    yield made
    if models.colour.hold is not None:
        models.colour.hold.set()
    await made.close()


async def scored(engine: Engine, content: bytes | None, **options: object) -> EngineScores:
    found = await engine.score(content, **options)  # type: ignore[arg-type]  # keywords of score, checked there
    assert isinstance(found, EngineScores)
    return found


def value(scores: ModelScores, label: str) -> float:
    return next(score.value for score in scores.labels if score.label == label)


async def test_all_models_answer_from_one_picture(engine: Engine, models: ToyModels) -> None:
    found = await scored(engine, RED)
    assert set(found.scores) == {"colour", "tint", "detail"}
    assert value(found.scores["colour"], "red") > 0.9
    assert value(found.scores["tint"], "red") == pytest.approx(value(found.scores["colour"], "red"), abs=0.01)
    assert found.scores["detail"].regions and not found.scores["detail"].skipped
    assert found.scores["tint"].preprocessing == "8-stretch", "a head has its network's preprocessing"
    assert set(found.embeddings) == {"colour"} and not found.missing
    assert found.header is not None and (found.header.width, found.header.height) == (64, 48)


async def test_a_cascade_whose_condition_fails_is_skipped_and_says_why(engine: Engine, models: ToyModels) -> None:
    found = await scored(engine, GREEN)
    assert models.detail.batches == []
    assert found.scores["detail"].skipped.startswith("tint.red 0.0") and ">= 0.5" in found.scores["detail"].skipped
    assert value(found.scores["detail"], "blue") == value(found.scores["tint"], "red")


async def test_a_combined_cascade_weighs_its_own_score_with_its_gates(engine: Engine, models: ToyModels) -> None:
    alone = await scored(engine, RED)
    models = ToyModels(combine=Combine("tint", "red", 0.5, 2.0, -1.0))
    weighing = Engine(models.registry, LimitSettings(), InferenceSettings(), EngineSettings(), InlineDecoding())
    try:
        both = await scored(weighing, RED)
        skipped = await scored(weighing, GREEN)
    finally:
        await weighing.close()
    gate, own = value(alone.scores["tint"], "red"), value(alone.scores["detail"], "blue")
    wanted = 1 / (1 + math.exp(-(0.5 * logit(gate) + 2.0 * logit(own) - 1.0)))
    assert value(both.scores["detail"], "blue") == pytest.approx(wanted, abs=1e-5)
    assert abs(wanted - own) > 0.001, "combining changes the score"
    assert both.scores["detail"].regions == alone.scores["detail"].regions
    assert skipped.scores["detail"].skipped
    assert value(skipped.scores["detail"], "blue") == value(skipped.scores["tint"], "red"), "the gate's value stands"


async def test_a_stored_embedding_answers_heads_without_pixels_and_gives_the_same_scores(
    engine: Engine, models: ToyModels
) -> None:
    fresh = await scored(engine, RED)
    models.colour.batches.clear()
    stored = await scored(engine, None, wanted=frozenset({"tint"}), embeddings=fresh.embeddings)
    assert stored.scores == {"tint": fresh.scores["tint"]}
    assert models.colour.batches == [] and not stored.missing and stored.header is None


async def test_what_needs_pixels_is_named_when_there_are_none(engine: Engine) -> None:
    fresh = await scored(engine, RED)
    found = await scored(engine, None, embeddings=fresh.embeddings)
    assert found.missing == {"colour", "detail"} and set(found.scores) == {"tint"}
    nothing = await scored(engine, None)
    assert nothing.missing == {"colour", "tint", "detail"} and not nothing.scores


async def test_known_scores_are_conditions_and_are_not_computed_again(engine: Engine, models: ToyModels) -> None:
    fresh = await scored(engine, RED)
    models.colour.batches.clear()
    known = {name: fresh.scores[name] for name in ("colour", "tint")}
    found = await scored(engine, RED, known=known)
    assert set(found.scores) == {"detail"} and models.colour.batches == []


async def test_only_wanted_models_and_what_they_need_run(engine: Engine, models: ToyModels) -> None:
    found = await scored(engine, RED, wanted=frozenset({"tint"}))
    assert set(found.scores) == {"tint", "colour"} and models.detail.batches == []
    with pytest.raises(KeyError):
        await engine.score(RED, wanted=frozenset({"stranger"}))


async def test_batches_fill_while_the_device_is_busy_and_never_exceed_the_limit(
    engine: Engine, models: ToyModels
) -> None:
    models.colour.hold = threading.Event()
    first = asyncio.create_task(engine.score(GREEN))
    await eventually(lambda: models.colour.entered == 1)
    rest = [asyncio.create_task(engine.score(GREEN)) for _ in range(10)]
    await eventually(lambda: engine.waiting()["colour"] == 10)
    models.colour.hold.set()
    await asyncio.gather(first, *rest)
    assert models.colour.batches == [1, 4, 4, 2]
    assert {name.split("_")[0] for name in models.colour.threads} == {"device"}


async def test_live_goes_before_backfill_and_a_promoted_call_goes_with_it(engine: Engine, models: ToyModels) -> None:
    models.colour.hold = threading.Event()
    order: list[str] = []

    async def run(name: str, ticket: Ticket) -> None:
        await engine.score(GREEN, wanted=frozenset({"colour"}), ticket=ticket)
        order.append(name)

    blocker = asyncio.create_task(run("first", Ticket()))
    await eventually(lambda: models.colour.entered == 1)
    promoted = Ticket(Priority.BACKFILL)
    tasks = [asyncio.create_task(run(f"backfill{n}", Ticket(Priority.BACKFILL))) for n in range(4)]
    tasks.append(asyncio.create_task(run("promoted", promoted)))
    await eventually(lambda: engine.waiting()["colour"] == 5)
    tasks += [asyncio.create_task(run(f"live{n}", Ticket())) for n in range(3)]
    await eventually(lambda: engine.waiting()["colour"] == 8)
    engine.promote(promoted)
    models.colour.hold.set()
    await asyncio.gather(blocker, *tasks)
    assert set(order[:5]) == {"first", "live0", "live1", "live2", "promoted"}


async def test_a_bad_picture_is_a_rejection_and_its_neighbours_are_scored(engine: Engine) -> None:
    results = await asyncio.gather(engine.score(RED), engine.score(b"not a picture"), engine.score(b""))
    assert isinstance(results[0], EngineScores)
    assert isinstance(results[1], Rejection) and results[1].reason is RejectReason.UNSUPPORTED_FORMAT
    assert isinstance(results[2], Rejection) and results[2].reason is RejectReason.EMPTY


async def test_a_model_that_breaks_fails_every_member_and_all_later_calls(engine: Engine, models: ToyModels) -> None:
    models.colour.error = RuntimeError("device lost")
    results = await asyncio.gather(*(engine.score(RED) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(result, RuntimeError) for result in results)
    models.colour.error = None
    with pytest.raises(RuntimeError):
        await engine.score(RED)


async def test_a_cancelled_call_leaves_its_batch_and_holds_nothing(engine: Engine, models: ToyModels) -> None:
    models.colour.hold = threading.Event()
    first = asyncio.create_task(engine.score(GREEN))
    await eventually(lambda: models.colour.entered == 1)
    leaving = asyncio.create_task(engine.score(GREEN))
    await eventually(lambda: engine.waiting()["colour"] == 1)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert engine.waiting()["colour"] == 0
    models.colour.hold.set()
    assert isinstance(await first, EngineScores)
    assert models.colour.batches == [1]


async def test_scores_do_not_depend_on_the_kind_of_embedding(engine: Engine) -> None:
    fresh = await scored(engine, RED)
    kept = fresh.embeddings["colour"]
    again = QuantisedEmbedding(bytes(kept.values), float(kept.scale))
    found = await scored(engine, None, wanted=frozenset({"tint"}), embeddings={"colour": again})
    assert found.scores["tint"] == fresh.scores["tint"]


def strip(*colours: tuple[int, int, int]) -> bytes:
    """A strip of squares of 32 pixels, one for each colour."""
    pixels = np.concatenate([np.full((32, 32, 3), colour, np.uint8) for colour in colours], axis=1)
    return encoded(Image.fromarray(pixels), "PNG")


async def test_what_one_part_of_a_strip_shows_is_what_counts(engine: Engine, models: ToyModels) -> None:
    black = (0, 0, 0)
    found = await scored(engine, strip(black, black, (250, 0, 0), black, black))
    assert len(found.renditions) == 1 + square_count(160, 32)
    red = found.scores["colour"].labels[0]
    assert red.value > 0.9 and found.renditions[red.rendition].left == pytest.approx(0.4, abs=0.05)
    assert not found.scores["detail"].skipped, "the cascade runs for the part whose condition holds"
    assert found.scores["detail"].regions[0].left == found.renditions[red.rendition].left
    assert sum(models.detail.batches) < len(found.renditions) - 3, "and for no other"


async def test_a_content_of_several_renditions_has_no_embedding(engine: Engine) -> None:
    found = await scored(engine, strip(*[(250, 0, 0)] * 3))
    assert found.embeddings == {} and len(found.renditions) > 1


async def test_a_stored_embedding_does_not_stand_for_several_renditions(engine: Engine) -> None:
    stored = (await scored(engine, RED)).embeddings
    body = strip((0, 0, 0), (0, 0, 0), (0, 250, 0))
    found = await scored(engine, body, wanted=frozenset({"tint", "detail"}), embeddings=stored)
    assert value(found.scores["tint"], "red") < 0.1 and value(found.scores["tint"], "green") > 0.9


async def test_frames_count_and_are_counted(engine: Engine) -> None:
    frames = [plain((0, 0, 0)), plain((0, 0, 90)), plain((250, 0, 0))]
    body = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=100)
    found = await scored(engine, body)
    assert found.header is not None and found.header.frames == 3
    assert value(found.scores["colour"], "red") > 0.9
    assert found.renditions[found.scores["colour"].labels[0].rendition].frame == 2
