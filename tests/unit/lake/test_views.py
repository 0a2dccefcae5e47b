"""The views: what they show of made records, and that they agree with the index on which fact of an image stands."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

import pytest

from app.domain import identity
from app.ports.index import IndexEntry
from app.systems.registry.avro import Codec
from schemas.records import (
    ContentEmbedding,
    FlaggedImage,
    ImagePrediction,
    ImageRemoved,
    ModelScores,
    ModerationDecision,
    Record,
)
from tests.support.lake.tables import DAY_MS, Published, lake_in_memory, rows_by_name
from tests.support.memory.index import MemoryIndex
from tests.support.outcomes import CATEGORY_LABELS, EVENT_MS, flag_of, labelled, prediction, removal, scores
from tests.support.schema_examples import newest_example

KEY = "shop/photo-0001.jpg"
CODEC = Codec()


def query(sql: str, **tables: Sequence[Record]) -> list[dict[str, Any]]:
    published: dict[str, list[Published]] = {
        name: [(record, EVENT_MS + 1000 + at) for at, record in enumerate(records)] for name, records in tables.items()
    }
    with lake_in_memory(published) as duck:
        return rows_by_name(duck, sql)


def category(top: str, version: str = "1") -> ModelScores:
    return labelled("category", {label: 0.7 if label == top else 0.03 for label in CATEGORY_LABELS}, version=version)


def rescored(original: ImagePrediction, *new: ModelScores, job: str = "job-1", at: int = 9000) -> ImagePrediction:
    return dataclasses.replace(
        original,
        upload_id=identity.rescore_upload_id(original.upload_id, job),
        job_id=job,
        lane="backfill",
        scores=new,
        previous=original.scores,
        scored_at_ms=EVENT_MS + at,
    )


def test_each_label_of_an_active_model_is_a_column() -> None:
    known = prediction(scores=(scores("nsfw", nsfw=0.25), category("t-shirt"), scores("old", thing=0.5)))
    (row,) = query("SELECT * FROM predictions_all", predictions=[known])
    assert (row["nsfw_nsfw"], row["nsfw_version"], row["nsfw_skipped"]) == (0.25, "1", "")
    assert (row["category"], row["category_score"], row["category_t_shirt"]) == ("t-shirt", 0.7, 0.7)
    assert (row["quality_blurry"], row["quality_version"]) == (None, None)
    assert row["event_time"].timestamp() * 1000 == known.event_time_ms
    assert row["scores"][2]["model"] == "old"


def test_an_outcome_without_scores_has_a_row_without_them() -> None:
    lost = prediction(outcome="gone", reason="deleted", scores=(), sha256=None)
    (row,) = query("SELECT outcome, reason, category, nsfw_nsfw, scores FROM predictions_all", predictions=[lost])
    assert row == {"outcome": "gone", "reason": "deleted", "category": None, "nsfw_nsfw": None, "scores": []}


def test_what_was_written_twice_is_shown_once_as_it_came_first() -> None:
    first = prediction(worker="one")
    rows = query(
        "SELECT worker, kafka_offset FROM predictions_all ORDER BY 1",
        predictions=[first, first, dataclasses.replace(first, worker="two"), prediction(order=2, worker="three")],
    )
    assert rows == [{"worker": "one", "kafka_offset": 0}, {"worker": "three", "kafka_offset": 3}]


def test_scores_are_a_row_for_each_upload_model_version_and_label() -> None:
    first = prediction(scores=(scores("nsfw", nsfw=0.25, cached=True), scores("quality", blurry=0.1, dark=0.2)))
    again = rescored(first, scores("nsfw", version="2", nsfw=0.5))
    rows = query(
        "SELECT model, version, label, value, cached, skipped, job_id FROM prediction_scores ORDER BY 1, 2, 3",
        predictions=[first, again],
    )
    assert [tuple(row.values()) for row in rows] == [
        ("nsfw", "1", "nsfw", 0.25, True, "", None),
        ("nsfw", "2", "nsfw", 0.5, False, "", "job-1"),
        ("quality", "1", "blurry", 0.1, False, "", None),
        ("quality", "1", "dark", 0.2, False, "", None),
    ]


def test_the_newest_upload_of_an_image_is_its_latest() -> None:
    old, new = prediction(order=1, scores=(category("hat"),)), prediction(order=2, scores=(category("dress"),))
    late = rescored(old, category("shoes"))
    rows = query("SELECT upload_id, category FROM predictions_latest", predictions=[new, old, late])
    assert rows == [{"upload_id": new.upload_id, "category": "dress"}]


def test_a_rescoring_by_some_models_replaces_theirs_and_keeps_the_others() -> None:
    first = prediction(scores=(scores("nsfw", nsfw=0.25), category("hat")))
    again = rescored(first, category("shoes"))
    (row,) = query("SELECT upload_id, category, nsfw_nsfw, scores FROM predictions_latest", predictions=[first, again])
    assert (row["upload_id"], row["category"], row["nsfw_nsfw"]) == (again.upload_id, "shoes", 0.25)
    assert sorted(one["model"] for one in row["scores"]) == ["category", "nsfw"]


def test_scores_of_other_than_active_versions_are_not_the_latest() -> None:
    other = prediction(scores=(scores("nsfw", nsfw=0.25, version="0"), category("hat")))
    (row,) = query("SELECT nsfw_nsfw, nsfw_version, category, scores FROM predictions_latest", predictions=[other])
    assert (row["nsfw_nsfw"], row["nsfw_version"], row["category"]) == (None, None, "hat")
    assert [one["model"] for one in row["scores"]] == ["category"]


def test_a_removed_image_has_no_latest_outcome() -> None:
    sql = "SELECT i.removed, p.key FROM images_latest AS i LEFT JOIN predictions_latest AS p ON p.key = i.key"
    assert query(sql, predictions=[prediction(order=1)], removals=[removal(order=2)]) == [
        {"removed": True, "key": None}
    ]
    assert query(sql, predictions=[prediction(order=3)], removals=[removal(order=2)]) == [
        {"removed": False, "key": KEY}
    ]


def test_an_erased_version_gives_way_to_the_one_before() -> None:
    first, second = prediction(order=1, version_id="v1"), prediction(order=2, version_id="v2")
    rows = query(
        "SELECT upload_id FROM images_latest",
        predictions=[first, second],
        removals=[removal(order=3, version_id="v2")],
    )
    assert rows == [{"upload_id": first.upload_id}]


@pytest.mark.parametrize("seed", range(8))
async def test_images_agree_with_the_index(seed: int) -> None:
    """Any facts of both readings, of two dialects, with and without order keys, over a hundred images."""
    draw = random.Random(seed)
    facts = [_fact(draw, f"image-{image}.jpg", number) for image in range(100) for number in range(draw.randint(1, 5))]
    index = MemoryIndex()
    await index.apply([IndexEntry(fact, CODEC.encode(fact)) for fact in facts])
    rows = query(
        "SELECT bucket, key, removed, upload_id FROM images_latest",
        predictions=[fact for fact in facts if isinstance(fact, ImagePrediction)],
        removals=[fact for fact in facts if isinstance(fact, ImageRemoved)],
    )
    told = {row["key"]: (row["removed"], row["upload_id"]) for row in rows}
    for key in {fact.key for fact in facts}:
        held = await index.image("images", key)
        assert held is not None
        upload = held.prediction.upload_id if held.prediction is not None else None
        assert told[key] == (upload is None, upload), key


def _fact(draw: random.Random, key: str, number: int) -> ImagePrediction | ImageRemoved:
    # One dialect of an image and reading numbers its events; the other has none, so event times decide between them.
    other = draw.random() < 0.4
    common: dict[str, Any] = {"key": key, "event_key": f"first/{key}" if other else None}
    order = draw.randint(1, 6)
    if draw.random() < 0.3:
        common |= {"dialect": "minio", "order_key": ""}
    if draw.random() < 0.35:
        return removal(order=order, removal_id=f"removal-{key}-{number}", **common)
    job = f"job-{number}" if draw.random() < 0.3 else None
    return prediction(
        order=order,
        upload_id=f"upload-{key}-{number}",
        job_id=job,
        scored_at_ms=EVENT_MS + draw.randint(0, 5000),
        **common,
    )


def test_a_flag_stands_until_a_rescoring_clears_it() -> None:
    one, two = prediction(key="one.jpg"), prediction(key="two.jpg", order=2)
    again = rescored(two, scores("nsfw", nsfw=0.1))
    cleared = flag_of(again, state="cleared", action="none", rules=(), changed=True, previous_action="block")
    flags: list[Record] = [flag_of(one), flag_of(two), cleared]
    tables: dict[str, Sequence[Record]] = {"predictions": [one, two, again], "flagged": flags}
    rows = query("SELECT key, state, action FROM flagged_latest ORDER BY key", **tables)
    assert [tuple(row.values()) for row in rows] == [("one.jpg", "flagged", "block"), ("two.jpg", "cleared", "none")]
    rows = query("SELECT key, flagged, policy_version FROM uploads ORDER BY key", **tables)
    assert [tuple(row.values()) for row in rows] == [
        ("one.jpg", True, "1+000000000000"),
        ("two.jpg", False, None),
    ]
    (rate,) = query("SELECT policy, uploads, flagged, rate FROM flag_rate_daily", **tables)
    assert rate == {"policy": "default", "uploads": 2, "flagged": 1, "rate": 0.5}


def test_a_flag_of_an_upload_that_was_replaced_or_removed_is_not_the_latest() -> None:
    old, new = prediction(order=1), prediction(order=2)
    assert query("SELECT key FROM flagged_latest", predictions=[old, new], flagged=[flag_of(old)]) == []
    gone = [removal(order=3)]
    assert query("SELECT key FROM flagged_latest", predictions=[old], flagged=[flag_of(old)], removals=gone) == []


def test_a_decision_that_was_taken_back_does_not_stand() -> None:
    example = newest_example("ModerationDecision")
    assert isinstance(example, ModerationDecision)
    first = dataclasses.replace(example, decision_id="a", decision="approve", decided_at_ms=1000)
    second = dataclasses.replace(example, decision_id="b", decision="reject", decided_at_ms=3000)
    # The clock of the one who took it back was behind.
    third = dataclasses.replace(example, decision_id="c", decision="skip", decided_at_ms=2000, reverses="b")
    sql = "SELECT decision_id FROM decisions_latest"
    assert query(sql, decisions=[first, second]) == [{"decision_id": "b"}]
    assert query(sql, decisions=[first, second, third]) == [{"decision_id": "c"}]


def test_a_content_counts_once_however_often_it_is_uploaded() -> None:
    days = [
        prediction(key=f"{day}.jpg", order=day * DAY_MS, event_time_ms=EVENT_MS + day * DAY_MS) for day in (0, 1, 2)
    ]
    tables: dict[str, Sequence[Record]] = {"predictions": [*days, prediction(key="other.jpg", sha256="ab" * 32)]}
    uploads = query("SELECT day, sum(uploads)::INT AS n FROM per_upload GROUP BY day ORDER BY day", **tables)
    contents = query("SELECT day, sum(contents)::INT AS n FROM per_content GROUP BY day ORDER BY day", **tables)
    assert [row["n"] for row in uploads] == [2, 1, 1]
    assert [row["n"] for row in contents] == [2]
    assert contents[0]["day"] == uploads[0]["day"]


def test_the_newest_embedding_of_a_content_is_a_list_of_signed_numbers() -> None:
    example = newest_example("ContentEmbedding")
    assert isinstance(example, ContentEmbedding)
    old = dataclasses.replace(example, values=b"\x01\x02", dimensions=2, computed_at_ms=1000)
    new = dataclasses.replace(example, values=b"\x00\x7f\x80\xff", dimensions=4, computed_at_ms=2000)
    (row,) = query("SELECT vector, dimensions FROM embeddings_latest", embeddings=[old, new, old])
    assert row == {"vector": [0, 127, -128, -1], "dimensions": 4}


def test_flags_of_uploads_that_no_prediction_tells_of_are_left_out() -> None:
    stray = flag_of(prediction(order=5))
    assert isinstance(stray, FlaggedImage)
    assert query("SELECT * FROM uploads", flagged=[stray]) == []
