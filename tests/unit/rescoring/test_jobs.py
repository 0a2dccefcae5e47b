from __future__ import annotations

from dataclasses import replace

import pytest

from app.domain.jobs import (
    CANCELLED,
    ENQUEUED,
    PAUSED,
    RUNNING,
    SILENT_MS,
    Job,
    JobCursor,
    JobRequest,
    may_wait,
    parse_model,
    parse_rate,
    parse_time,
    silent_since,
)
from app.domain.places import parse_folder, parse_image, parse_place
from app.errors import ConfigurationError

JOB = Job(
    id="rescore-1",
    request=JobRequest(1_000, None, "", "", ("quality@2",), True),
    state=RUNNING,
    created_at_ms=5,
    ends=((0, 10), (1, 20)),
    slices=3,
    total=30,
    enqueued=7,
    skipped=1,
    cursor=JobCursor(1, ((0, 4),), ""),
    rate_per_second=2.5,
    error="",
)


def test_a_job_survives_its_own_json() -> None:
    assert Job.from_json(JOB.to_json()) == JOB


def test_nobody_runs_a_job_whose_runner_was_silent_for_long() -> None:
    assert silent_since(JOB, 1_000, 1_000 + SILENT_MS) is None
    assert silent_since(JOB, 1_000, 1_001 + SILENT_MS) == 1_000
    # A sign from a clock that is ahead of ours is a sign of now.
    assert silent_since(JOB, 90_000, 80_000) is None
    assert silent_since(JOB, None, 80_000) is None


@pytest.mark.parametrize("state", [PAUSED, CANCELLED, ENQUEUED])
def test_a_job_with_nothing_to_put_out_needs_no_runner(state: str) -> None:
    assert silent_since(replace(JOB, state=state), 1_000, 10_000_000) is None


def test_outcomes_are_waited_for_as_long_as_their_tasks_are_kept() -> None:
    out = replace(JOB, state=ENQUEUED, enqueued_at_ms=5_000)
    assert may_wait(out, 5_999, 1_000) and not may_wait(out, 6_000, 1_000)
    assert not may_wait(replace(out, state=CANCELLED), 5_999, 1_000)


@pytest.mark.parametrize("body", ["{}", "[]", "nonsense", '{"id": 1}', "null"])
def test_what_is_no_job_is_a_value_error(body: str) -> None:
    with pytest.raises(ValueError):
        Job.from_json(body)


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-02", 86_400_000),
        ("1970-01-01T00:00:01Z", 1_000),
        ("1970-01-01T01:00+01:00", 0),
        ("1970-01-01 00:01", 60_000),
    ],
)
def test_times_are_utc_without_a_zone(text: str, milliseconds: int) -> None:
    assert parse_time(text) == milliseconds


@pytest.mark.parametrize(("text", "rate"), [("50", 50.0), ("50/s", 50.0), ("3000/m", 50.0), ("36000/h", 10.0)])
def test_rates(text: str, rate: float) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["", "0", "-1/s", "fast", "5/d"])
def test_wrong_rates_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="write it as"):
        parse_rate(text)


def test_wrong_words_are_refused_in_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match="is not a time such as"):
        parse_time("yesterday")
    with pytest.raises(ConfigurationError, match="NAME@VERSION"):
        parse_model("quality")
    with pytest.raises(ConfigurationError, match="is no place in S3"):
        parse_place("images/shop")
    with pytest.raises(ConfigurationError, match="names no image"):
        parse_image("s3://images")


def test_places() -> None:
    assert parse_place("s3://images") == ("images", "")
    assert parse_place("s3://images/shop/a b.jpg") == ("images", "shop/a b.jpg")
    assert parse_folder("s3://lake/archive/") == parse_folder("s3://lake/archive") == ("lake", "archive/")
    assert parse_folder("s3://lake") == ("lake", "")


def test_a_request_in_words() -> None:
    assert JOB.request.in_words() == "uploads from 1970-01-01T00:00:01Z to now, models quality@2, forced"
