"""Figures of the last five minutes."""

from __future__ import annotations

import dataclasses
from typing import Any

from app.serving.sliding_window import CELL_SECONDS, WINDOW_SECONDS, Window
from tests.support.outcomes import flag_of, prediction, scores

NOW_MS = 1_795_000_100_000


def _fields(**changes: Any) -> dict[str, Any]:
    return dataclasses.asdict(prediction(**changes))


def test_everything_is_counted_once() -> None:
    window = Window()
    models = (scores("nsfw", nsfw=0.1), dataclasses.replace(scores("text", text=0.1, version="2"), skipped="gate"))
    window.prediction(_fields(scores=models, event_time_ms=NOW_MS, scored_at_ms=NOW_MS + 500), NOW_MS, NOW_MS)
    window.prediction(_fields(scores=models, cached=True, lane="backfill", job_id="j"), NOW_MS, NOW_MS)
    window.prediction(_fields(outcome="rejected", reason="undecodable", scores=()), NOW_MS, NOW_MS)
    window.prediction(_fields(outcome="gone", scores=()), NOW_MS, NOW_MS)
    window.flag(dataclasses.asdict(flag_of(prediction())), NOW_MS, NOW_MS)
    total = window.total(NOW_MS)
    assert total.outcomes == {"scored": 2, "rejected": 1, "gone": 1}
    assert total.rejections == {"undecodable": 1}
    assert total.cached == 1
    assert total.models == {("nsfw", "1"): 2}
    assert total.policies == {("default", "1+000000000000"): 1}
    # Three of the live lane; the rescoring says nothing of freshness.
    assert total.freshness.count == 3


def test_cells_leave_the_window_one_by_one() -> None:
    window = Window()
    for number in range(60):
        at_ms = NOW_MS + number * CELL_SECONDS * 1000
        window.prediction(_fields(), at_ms, at_ms)
        cells = list(window.cells(at_ms))
        assert len(cells) == WINDOW_SECONDS // CELL_SECONDS
        assert cells[-1][0] <= at_ms < cells[-1][0] + CELL_SECONDS * 1000
        assert window.total(at_ms).outcomes["scored"] == min(number + 1, len(cells))
    assert window.total(at_ms + WINDOW_SECONDS * 1000).outcomes.total() == 0


def test_what_is_too_old_is_left_out_and_what_is_ahead_counts_as_now() -> None:
    window = Window()
    window.prediction(_fields(), NOW_MS - WINDOW_SECONDS * 1000, NOW_MS)
    assert window.total(NOW_MS).outcomes.total() == 0
    window.prediction(_fields(), NOW_MS + 3_600_000, NOW_MS)
    assert list(window.cells(NOW_MS))[-1][1].outcomes == {"scored": 1}


def test_names_that_never_end_do_not_fill_the_memory() -> None:
    window = Window()
    for number in range(1_000):
        window.prediction(_fields(outcome="rejected", reason=f"r{number}"), NOW_MS, NOW_MS)
    assert len(window.total(NOW_MS).rejections) == 200
