"""docs/analytics.md: its queries run, and say of a made week what Python counts in it."""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from app.lake.sql.answers import PAGE, answered, questions, with_answers
from app.lake.sql.duckdb_session import Duck
from schemas.records import ImagePrediction
from tests.support.lake.tables import lake_in_memory, rows_by_name
from tests.support.lake.week import BLURRY, DAYS, TEXT, Week, made_week, value_of

QUESTIONS = questions(PAGE.read_text(encoding="utf-8"))
Rows = list[tuple[Any, ...]]


@pytest.fixture(scope="module")
def week() -> Week:
    # The page asks for the last 7 days: the five before today are among them, even if midnight comes meanwhile.
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return made_week(int((today - timedelta(days=DAYS)).timestamp() * 1000))


@pytest.fixture(scope="module")
def lake(week: Week) -> Iterator[Duck]:
    with lake_in_memory(week.tables()) as duck:
        yield duck


def asked(lake: Duck, number: int) -> Rows:
    return [tuple(row.values()) for row in rows_by_name(lake, QUESTIONS[number - 1].sql)]


def percent(part: float, whole: float) -> float:
    """To one digit, halves away from zero as SQL has it."""
    return math.floor(1000 * part / whole + 0.5) / 10


def scored(week: Week) -> list[ImagePrediction]:
    return [upload for upload in week.uploads if upload.outcome == "scored"]


def category(upload: ImagePrediction) -> str:
    labels = next(entry.labels for entry in upload.scores if entry.model == "category")
    return max(labels, key=lambda label: label.value).label


def version(upload: ImagePrediction, model: str) -> str:
    return next(entry.version for entry in upload.scores if entry.model == model)


def day(upload: ImagePrediction) -> date:
    return datetime.fromtimestamp(upload.event_time_ms / 1000, UTC).date()


def standing_flags(week: Week) -> dict[str, tuple[str, ...]]:
    """Rules by upload id of the live uploads whose flag none took back."""
    back = {(flag.key, flag.order_key) for flag in week.flags if flag.state == "cleared"}
    return {
        flag.upload_id: tuple(match.rule for match in flag.rules)
        for flag in week.flags
        if flag.state == "flagged" and (flag.key, flag.order_key) not in back
    }


def latest(week: Week) -> dict[str, ImagePrediction]:
    """The newest live upload of each image that is there."""
    found = {upload.key: upload for upload in week.uploads}
    for gone in week.removals:
        found.pop(gone.key, None)
    return found


def test_there_are_ten_questions_each_with_an_answer() -> None:
    assert [question.title.split(".")[0] for question in QUESTIONS] == [str(number) for number in range(1, 11)]


def test_1_text_by_category_and_version(lake: Duck, week: Week) -> None:
    groups: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for upload in scored(week):
        found = value_of(upload, "embedded_text", "text") >= TEXT
        groups[category(upload), version(upload, "embedded_text")].append(found)
    expected = [(*key, len(all_), sum(all_), percent(sum(all_), len(all_))) for key, all_ in groups.items()]
    assert {key[1] for key in groups} == {"1", "2"}
    assert asked(lake, 1) == sorted(expected)


def test_2_uploads_against_contents(lake: Duck, week: Week) -> None:
    uploads = Counter(category(upload) for upload in scored(week))
    first: dict[str | None, ImagePrediction] = {}
    for upload in week.uploads:
        if upload.sha256 is not None:
            first.setdefault(upload.sha256, upload)
    contents = Counter(category(upload) for upload in first.values() if upload.outcome == "scored")
    assert sum(uploads.values()) > 1.3 * sum(contents.values())
    assert [(name, int(n), int(c), ratio) for name, n, c, ratio in asked(lake, 2)] == [
        (name, uploads[name], contents[name], round(uploads[name] / contents[name], 2)) for name in sorted(uploads)
    ]


def test_3_flag_rate_by_day_and_rule(lake: Duck, week: Week) -> None:
    uploads = Counter(day(upload) for upload in week.uploads)
    flags = standing_flags(week)
    found = Counter((day(upload), rule) for upload in week.uploads for rule in flags.get(upload.upload_id, ()))
    expected = [(*key, count, uploads[key[0]], percent(count, uploads[key[0]])) for key, count in found.items()]
    assert len({rule for _, rule in found}) == 4
    assert asked(lake, 3) == sorted(expected)


def test_3_agrees_with_the_rate_by_policy_version(lake: Duck, week: Week) -> None:
    flags = standing_flags(week)
    expected = Counter(day(upload) for upload in week.uploads if upload.upload_id in flags)
    seen = Counter(day(upload) for upload in week.uploads if upload.outcome != "gone")
    rows = rows_by_name(lake, "SELECT day, uploads, flagged FROM flag_rate_daily ORDER BY day")
    assert [tuple(row.values()) for row in rows] == [(one, seen[one], expected[one]) for one in sorted(seen)]


def test_4_blurry_photos_by_seller(lake: Duck, week: Week) -> None:
    groups: dict[str, list[bool]] = defaultdict(list)
    for key, upload in latest(week).items():
        if upload.outcome == "scored":
            groups[key.split("/")[0]].append(value_of(upload, "quality", "blurry") >= BLURRY)
    expected = [(name, len(all_), sum(all_), percent(sum(all_), len(all_))) for name, all_ in groups.items()]
    assert asked(lake, 4) == sorted(expected, key=lambda row: (-row[3], row[0]))


def test_5_freshness_by_hour(lake: Duck, week: Week) -> None:
    groups: dict[datetime, list[int]] = defaultdict(list)
    for upload in week.uploads:
        if upload.outcome != "gone":
            hour = datetime.fromtimestamp(upload.event_time_ms // 3_600_000 * 3600, UTC)
            groups[hour].append(upload.scored_at_ms - upload.event_time_ms)
    rows = asked(lake, 5)
    assert [(row[0], row[1]) for row in rows] == [(hour, len(groups[hour])) for hour in sorted(groups)]
    for hour, _, p50, p95 in rows:
        assert p50 == pytest.approx(statistics.median(groups[hour]) / 1000)
        assert p50 <= p95 <= max(groups[hour]) / 1000 + 1e-9


def test_6_hits_by_day(lake: Duck, week: Week) -> None:
    uploads = Counter(day(upload) for upload in scored(week))
    hits = Counter(day(upload) for upload in scored(week) if upload.cached)
    assert sum(hits.values()) > 50
    assert asked(lake, 6) == [
        (one, uploads[one], hits[one], percent(hits[one], uploads[one])) for one in sorted(uploads)
    ]


def test_7_rejections_by_reason(lake: Duck, week: Week) -> None:
    groups: dict[str, list[ImagePrediction]] = defaultdict(list)
    for upload in week.uploads:
        if upload.outcome == "rejected":
            groups[upload.reason].append(upload)
    expected = [
        (
            reason,
            len(uploads),
            len({upload.sha256 for upload in uploads}),
            datetime.fromtimestamp(min(upload.event_time_ms for upload in uploads) / 1000, UTC),
        )
        for reason, uploads in groups.items()
    ]
    assert asked(lake, 7) == sorted(expected, key=lambda row: (-row[1], row[0]))


def test_8_nearest_neighbours(lake: Duck, week: Week) -> None:
    vectors = {one.sha256: [value - 256 if value > 127 else value for value in one.values] for one in week.embeddings}
    there = {key: upload for key, upload in latest(week).items() if upload.sha256 in vectors}
    mine = vectors[str(there[min(there)].sha256)]
    expected = []
    for key, upload in there.items():
        other = vectors[str(upload.sha256)]
        if other != mine:
            product = sum(one * two for one, two in zip(mine, other, strict=True))
            expected.append((key, round(product / (math.hypot(*mine) * math.hypot(*other)), 3)))
    rows = asked(lake, 8)
    assert [(row[0], row[2]) for row in rows] == sorted(expected, key=lambda row: (-row[1], row[0]))[:5]


def test_9_categories_that_a_rescoring_changed(lake: Duck, week: Week) -> None:
    before = {(upload.key, upload.order_key): upload for upload in week.uploads}
    expected = [
        (after.key, category(before[after.key, after.order_key]), "1", category(after), "2", after.job_id)
        for after in sorted(week.rescored, key=lambda one: (one.key, one.scored_at_ms))
        if category(after) != category(before[after.key, after.order_key])
    ]
    assert len(expected) > 5
    assert asked(lake, 9) == expected[:20]


def test_10_precision_by_band(lake: Duck, week: Week) -> None:
    uploads = {upload.upload_id: upload for upload in week.uploads if upload.outcome == "scored"}
    back = {decision.reverses for decision in week.decisions}
    standing = {
        decision.key: decision
        for decision in sorted(week.decisions, key=lambda one: one.decided_at_ms)
        if decision.decision_id not in back
    }
    groups: dict[float, list[bool]] = defaultdict(list)
    for decision in standing.values():
        upload = uploads.get(str(decision.upload_id))
        if upload is not None and decision.decision != "skip":
            score = value_of(upload, "embedded_text", "text")
            if score >= 0.39:
                groups[math.floor(score * 10) / 10].append(decision.decision == "reject")
    expected = [(band, len(all_), sum(all_), percent(sum(all_), len(all_))) for band, all_ in groups.items()]
    assert len(expected) >= 4
    assert asked(lake, 10) == sorted(expected)


def test_answers_are_put_where_the_old_ones_stood(lake: Duck) -> None:
    page = PAGE.read_text(encoding="utf-8")
    answers = {question.title: answered(lake, question) for question in QUESTIONS}
    renewed = with_answers(page, answers)
    assert [question.answer for question in questions(renewed)] == list(answers.values())
    assert with_answers(renewed, {question.title: question.answer for question in QUESTIONS}) == page
    assert with_answers(page, {}) == page
