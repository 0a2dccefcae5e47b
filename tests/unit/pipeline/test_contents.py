"""Rows of contents: what goes in comes out, versions are bounded, and reasons follow thresholds."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.contents import (
    WHOLE,
    ContentRow,
    content_key,
    decode_row,
    embedding_key,
    encode_row,
    etag_key,
    merged,
    reason_codes,
    row_of,
)
from app.systems.registry.avro import Codec
from schemas.records import ImagePrediction, LabelScore, ModelScores, Region, Rendition
from tests.support.outcomes import prediction
from tests.support.schema_examples import EXAMPLES_DIR

UNIT = st.floats(0, 1).map(lambda value: round(value, 6))
TEXT = st.text(max_size=12)
SCORES = st.builds(
    ModelScores,
    TEXT,
    TEXT,
    TEXT,
    st.lists(st.builds(LabelScore, TEXT, UNIT, st.integers(0, 40)), max_size=4).map(tuple),
    st.lists(st.builds(Region, UNIT, UNIT, UNIT, UNIT, UNIT), max_size=3).map(tuple),
    st.just(True),
    TEXT,
)
RENDITIONS = st.lists(
    st.builds(Rendition, st.integers(0, 999), UNIT, UNIT, UNIT, UNIT, st.sampled_from(["", "white", "dark"])),
    max_size=12,
).map(tuple)
SHA = "ab" * 32


@given(st.lists(SCORES, max_size=6).map(tuple), st.integers(0, 2**31 - 1), st.booleans(), RENDITIONS)
def test_what_is_stored_comes_back_exactly(
    scores: tuple[ModelScores, ...], width: int, truncated: bool, renditions: tuple[Rendition, ...]
) -> None:
    row = ContentRow("gif", width, 7, scores, 12, truncated, renditions)
    assert decode_row(encode_row(row)) == row


@given(st.binary(max_size=60))
def test_what_is_no_row_is_as_good_as_none(value: bytes) -> None:
    decode_row(value)
    for version in (b"\x01", b"\x02"):
        decode_row(version + value)
        decode_row(version + zlib.compress(value))
    assert decode_row(None) is None


def one(model: str, version: str, value: float = 0.5) -> ModelScores:
    return ModelScores(model, version, "p", (LabelScore("x", value),), (), False, "")


def test_a_row_of_four_models_is_small() -> None:
    labels = tuple(LabelScore(f"label {n}", round(n / 7, 6)) for n in range(10))
    row = ContentRow("jpeg", 1, 1, tuple(replace(one(f"model{n}", "1"), labels=labels) for n in range(4)))
    assert len(encode_row(row)) < 700


def test_two_versions_of_a_model_are_kept_and_the_last_is_found() -> None:
    row = None
    for version in ("1", "2", "3"):
        row = merged(row, ContentRow("png", 4, 5, (one("a", version), one("b", "1"))))
    assert row is not None and [(s.model, s.version) for s in row.scores] == [("a", "2"), ("a", "3"), ("b", "1")]
    found = row.find("a", "3", "p")
    assert found is not None and found.cached
    assert row.find("a", "1", "p") is None and row.find("a", "3", "other") is None
    before = row.superseded("a", "3", "p")
    assert before is not None and before.version == "2" and row.superseded("b", "1", "p") is None


def test_scores_without_a_picture_keep_its_size() -> None:
    row = merged(ContentRow("png", 4, 5, (one("a", "1"),)), ContentRow("", 0, 0, (one("a", "1", 0.9),)))
    assert (row.format, row.width, row.height) == ("png", 4, 5)
    assert len(row.scores) == 1 and row.scores[0].labels[0].value == 0.9


def test_keys_of_one_table_never_meet() -> None:
    assert len(content_key(SHA)) == 32 and len(etag_key("b", "e", 1)) == 24
    assert embedding_key(SHA, "nsfw") == content_key(SHA) + b"nsfw"
    assert etag_key("b", "e", 1) != etag_key("b", "e", 11) != etag_key("be", "", 11)


def test_reasons_are_codes_of_labels_at_or_over_their_threshold() -> None:
    advice = {("q", "x"): (0.5, "quality.x")}
    assert reason_codes([one("q", "1", 0.5)], advice) == ("quality.x",)
    assert reason_codes([one("q", "1", 0.49)], advice) == ()
    assert reason_codes([replace(one("q", "1", 0.9), skipped="not run")], advice) == ()
    assert reason_codes([one("q", "1", 0.9)], {}) == (), "no threshold, no reason"


def test_a_truncated_file_has_a_reason_code_of_its_own() -> None:
    advice = {("q", "x"): (0.5, "quality.x")}
    assert reason_codes([one("q", "1", 0.9)], advice, truncated=True) == ("quality.x", "file.truncated")
    assert reason_codes([], advice, truncated=True) == ("file.truncated",)


# --- rows and outcomes of older releases ---


def test_rows_and_outcomes_of_older_releases_are_computed_anew() -> None:
    """They had one look at the first frame, on white, without its colour profile: also a JPEG may show more today."""
    scores = [["a", "1", "p", [["x", 0.5]], [[0.1, 0.2, 0.3, 0.4, 0.5]], ""]]
    assert decode_row(b"\x01" + zlib.compress(json.dumps(["jpeg", 64, 48, scores]).encode(), 1)) is None
    old = prediction(scores=(one("a", "1"),), format="jpeg")
    assert row_of(old) is None
    row = row_of(replace(old, frames=3, truncated=True, renditions=(WHITE, DARK)))
    assert row == ContentRow("jpeg", 640, 480, old.scores, 3, True, (WHITE, DARK))


@pytest.mark.parametrize("version", [1, 2])
def test_an_older_record_teaches_no_row_whoever_reads_it_again(version: int) -> None:
    golden = bytes.fromhex((EXAMPLES_DIR / f"ImagePrediction.{version}.hex").read_text())
    old = Codec().decode_as(golden, ImagePrediction)
    assert old.scores and row_of(old) is None


WHITE, DARK = Rendition(0, 0, 0, 1, 1, "white"), Rendition(0, 0, 0, 1, 1, "dark")


def seen(model: str, rendition: int, value: float = 0.5) -> ModelScores:
    return ModelScores(model, "1", "p", (LabelScore("x", value, rendition),), (), False, "")


def test_scores_keep_the_rendition_that_gave_them_when_the_settings_change() -> None:
    before = ContentRow(
        "gif", 4, 5, (seen("a", 1), seen("b", 2)), 9, False, (WHOLE, DARK, Rendition(8, 0, 0, 1, 1, ""))
    )
    now = ContentRow("gif", 4, 5, (seen("b", 1, 0.7),), 9, False, (WHITE, DARK))
    row = merged(before, now)
    assert row.renditions == (WHITE, DARK), "what no score names any more is dropped"
    assert [(one.model, row.renditions[one.labels[0].rendition]) for one in row.scores] == [("a", DARK), ("b", DARK)]
    row = merged(before, replace(now, renditions=(WHITE,), scores=(seen("b", 0),)))
    assert [(one.model, row.renditions[one.labels[0].rendition]) for one in row.scores] == [("a", DARK), ("b", WHITE)]


def test_one_embedding_does_not_stand_for_several_renditions() -> None:
    assert ContentRow("jpeg", 4, 5, ()).has_embedding
    assert not ContentRow("png", 4, 5, (), 1, False, (WHITE, DARK)).has_embedding
