"""Pictures that are looked at more than once: what their outcomes tell, and that no embedding stands for them."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio

from app.domain.contents import content_key
from app.domain.images import Rejection
from app.inference.engine import Engine, EngineScores
from app.settings import Settings
from schemas.records import ModelScores, Rendition
from tests.support.memory.objects import MemoryObjectStore
from tests.support.pictures import encoded, jpeg, plain
from tests.support.toy_models import ToyModels
from tests.unit.pipeline.test_score import Bench, embeddings, prediction, scores, task_of

LOOKED_AT = (Rendition(0, 0, 0, 1, 1, ""), Rendition(41, 0, 0, 1, 1, ""))
GREEN = jpeg((0, 250, 0))


class Looking(Engine):
    """An engine to which every GIF is an animation of 96 frames that is cut off, and the last frame gave the values."""

    async def score(self, content: bytes | None, **given: Any) -> EngineScores | Rejection:
        found = await super().score(content, **given)
        if not isinstance(found, EngineScores) or found.header is None or found.header.format != "gif":
            return found
        seen = {name: _by_the_last_frame(one) for name, one in found.scores.items()}
        header = replace(found.header, frames=96)
        return replace(found, scores=seen, header=header, truncated=True, renditions=LOOKED_AT)


def _by_the_last_frame(one: ModelScores) -> ModelScores:
    return replace(one, labels=tuple(replace(label, rendition=1) for label in one.labels))


@pytest_asyncio.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench(ToyModels(), Settings(), MemoryObjectStore(), engine_type=Looking)
    made.store.create_bucket("b")
    yield made
    for engine in made.engines:
        await engine.close()


def animation(colour: tuple[int, int, int] = (250, 0, 0)) -> bytes:
    return encoded(plain(colour), "GIF")


async def test_the_outcome_says_what_was_looked_at_and_which_gave_each_value(bench: Bench) -> None:
    found = prediction(await bench.run(task_of(bench.store.put("b", "k.gif", animation()))))
    assert (found.frames, found.truncated, found.renditions) == (96, True, LOOKED_AT)
    assert {label.rendition for one in found.scores for label in one.labels} == {1}
    assert found.reasons[-1] == "file.truncated"
    still = prediction(await bench.run(task_of(bench.store.put("b", "k.jpg", GREEN), 2)))
    assert (still.frames, still.truncated, len(still.renditions)) == (1, False, 1)
    assert "file.truncated" not in still.reasons


async def test_a_known_animation_is_told_as_it_was_scored(bench: Bench) -> None:
    first = prediction(await bench.run(task_of(bench.store.put("b", "1.gif", animation()))))
    for restart in (False, True):
        if restart:
            bench.restart()
        again = prediction(await bench.run(task_of(bench.store.put("b", f"{restart}.gif", animation()), 2 + restart)))
        assert again.cached
        assert (again.frames, again.truncated, again.renditions) == (96, True, LOOKED_AT)
        assert again.reasons == first.reasons
        assert [one.labels for one in again.scores] == [one.labels for one in first.scores]


async def test_no_embedding_stands_for_several_renditions(bench: Bench) -> None:
    done = await bench.run(task_of(bench.store.put("b", "k.gif", animation())))
    assert embeddings(done) == [] and {write.table for write in done.writes} == {"contents"}
    known = await bench.run(task_of(bench.store.put("b", "l.gif", animation()), 2))
    assert embeddings(known) == [] and known.writes == ()


async def test_a_new_head_looks_at_all_frames_again(bench: Bench) -> None:
    """Guarantee: an embedding that lies in the table, from whatever release, is no way round the other frames."""
    first = prediction(await bench.run(task_of(bench.store.put("b", "k.gif", animation()))))
    still = await bench.run(task_of(bench.store.put("b", "k.jpg", GREEN), 2))
    (of_the_still,) = [write for write in still.writes if write.table == "embeddings"]
    key = bytes.fromhex(first.sha256 or "") + of_the_still.key[32:]
    bench.tables.rows["embeddings", 0, key] = of_the_still.value
    bench.restart(ToyModels(tint_version="2"))
    found = prediction(await bench.run(task_of(bench.store.put("b", "m.gif", animation()), 3)))
    assert bench.models.colour.batches == [1], "the network ran on the pixels"
    assert scores(found)["tint"].version == "2" and scores(found)["tint"].labels[0].value > 0.9


def old_row(format_: str, models: list[tuple[str, str, str]]) -> bytes:
    """A row as version 1 wrote it, with a value that no model here would give."""
    told = [[*one, [["red", 0.123]], [], ""] for one in models]
    return b"\x01" + zlib.compress(json.dumps([format_, 64, 48, told]).encode(), 1)


@pytest.mark.parametrize(("body", "format_"), [(animation(), "gif"), (jpeg((250, 0, 0)), "jpeg")])
async def test_rows_of_older_releases_are_computed_anew_once(bench: Bench, body: bytes, format_: str) -> None:
    first = await bench.run(task_of(bench.store.put("b", "k", body)))
    sha256 = prediction(first).sha256 or ""
    models = [(one.model, one.version, one.preprocessing) for one in prediction(first).scores]
    bench.tables.rows["contents", 0, content_key(sha256)] = old_row(format_, models)
    bench.restart(ToyModels())
    found = prediction(await bench.run(task_of(bench.store.put("b", "l", body), 2)))
    assert not found.cached and scores(found)["colour"].labels[0].value > 0.9
    assert prediction(await bench.run(task_of(bench.store.put("b", "m", body), 3))).cached


async def test_an_embedding_of_an_older_release_is_no_older_than_its_row(bench: Bench) -> None:
    """Guarantee: where the row counts no more, neither does what the network saw then."""
    still = await bench.run(task_of(bench.store.put("b", "k.jpg", GREEN)))
    (of_the_still,) = [write for write in still.writes if write.table == "embeddings"]
    ref = bench.store.put("b", "k.gif", animation())
    sha256 = hashlib.sha256(animation()).hexdigest()
    bench.tables.rows["contents", 0, content_key(sha256)] = old_row("gif", [("colour", "1", "8-stretch")])
    bench.tables.rows["embeddings", 0, content_key(sha256) + of_the_still.key[32:]] = of_the_still.value
    bench.restart(ToyModels())
    job = task_of(ref, 2, job_id="j", upload_id="j1", known_sha256=sha256, models=("tint",), lane="backfill")
    found = prediction(await bench.run(job))
    assert bench.models.colour.batches == [1], "the network ran on the pixels"
    assert {label.label: label.value for label in scores(found)["tint"].labels}["green"] < 0.1


async def test_what_is_publishable_is_scored_and_not_blocked(bench: Bench) -> None:
    red = prediction(await bench.run(task_of(bench.store.put("b", "red.jpg", jpeg((250, 0, 0))))))
    assert (red.outcome, red.publishable) == ("scored", True)
    green = prediction(await bench.run(task_of(bench.store.put("b", "green.jpg", GREEN), 2)))
    assert (green.outcome, green.publishable) == ("scored", False)
    known = prediction(await bench.run(task_of(bench.store.put("b", "green-too.jpg", GREEN), 3)))
    assert known.cached and not known.publishable
    reviewed = prediction(await bench.run(task_of(bench.store.put("b", "red.gif", animation()), 4)))
    assert (reviewed.outcome, reviewed.publishable) == ("scored", True), "`review` is no block"
    broken = prediction(await bench.run(task_of(bench.store.put("b", "x.jpg", b"no picture"), 5)))
    assert (broken.outcome, broken.publishable) == ("rejected", False)


async def test_a_rescoring_carries_what_the_picture_was(bench: Bench) -> None:
    ref = bench.store.put("b", "k.gif", animation())
    await bench.run(task_of(ref))
    done = await bench.run(task_of(ref, job_id="j", upload_id="f", force=True, lane="backfill"))
    past = {one.model: one for one in prediction(done).previous}["picture.past"]
    assert {label.label: label.value for label in past.labels} == {"frames": 96.0, "truncated": 1.0}
