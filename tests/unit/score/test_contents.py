"""Rows of contents: what goes in comes out, versions are bounded, and reasons follow thresholds."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from app.domain.contents import (
    ContentRow,
    content_key,
    decode_row,
    embedding_key,
    encode_row,
    etag_key,
    merged,
    reason_codes,
)
from schemas.records import LabelScore, ModelScores, Region

UNIT = st.floats(0, 1).map(lambda value: round(value, 6))
TEXT = st.text(max_size=12)
SCORES = st.builds(
    ModelScores,
    TEXT,
    TEXT,
    TEXT,
    st.lists(st.builds(LabelScore, TEXT, UNIT), max_size=4).map(tuple),
    st.lists(st.builds(Region, UNIT, UNIT, UNIT, UNIT, UNIT), max_size=3).map(tuple),
    st.just(True),
    TEXT,
)
SHA = "ab" * 32


@given(st.lists(SCORES, max_size=6).map(tuple), st.integers(0, 2**31 - 1))
def test_what_is_stored_comes_back_exactly(scores: tuple[ModelScores, ...], width: int) -> None:
    row = ContentRow("jpeg", width, 7, scores)
    assert decode_row(encode_row(row)) == row


@given(st.binary(max_size=60))
def test_what_is_no_row_is_as_good_as_none(value: bytes) -> None:
    decode_row(value)
    decode_row(b"\x01" + value)
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
    thresholds, codes = {("q", "x"): 0.5, ("q", "y"): 0.5}, {("q", "x"): "quality.x"}
    assert reason_codes([one("q", "1", 0.5)], thresholds, codes) == ("quality.x",)
    assert reason_codes([one("q", "1", 0.49)], thresholds, codes) == ()
    assert reason_codes([replace(one("q", "1", 0.9), skipped="not run")], thresholds, codes) == ()
    assert reason_codes([one("q", "1", 0.9)], {}, codes) == (), "no threshold, no reason"
