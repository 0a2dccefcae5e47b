"""The arithmetic of the benchmarks, and that their inputs are what their README says."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image

from app.bench.notifications import put_notification
from app.bench.photographs import TARGET_BYTES, bench_photographs
from app.bench.spread import Spread, rounded, slope, sustained
from app.domain.events.model import Created
from app.domain.events.parser import parse_message


def test_a_figure_is_the_median_and_keeps_its_rounds() -> None:
    spread = Spread((3.0, 1.0, 2.0))
    assert spread.median == 2.0
    assert spread.as_json() == {"min": 1.0, "max": 3.0, "rounds": [3.0, 1.0, 2.0]}
    assert rounded(123.456) == 123.5


def test_sustained_leaves_the_ends_out() -> None:
    # Ten a second, after a slow start and before a slow end.
    moments = [0.0, *(5.0 + number / 10 for number in range(98)), 40.0]
    assert sustained(moments) == pytest.approx(10.0)
    with pytest.raises(ValueError, match="too few"):
        sustained([1.0] * 9)


def test_slope_of_a_flat_and_of_a_growing_line() -> None:
    assert slope([(0.0, 5.0), (10.0, 5.0)]) == 0.0
    assert slope([(0.0, 5.0), (10.0, 25.0)]) == 2.0
    assert slope([(1.0, 5.0), (1.0, 7.0)]) == 0.0


def test_photographs_are_distinct_and_weigh_what_is_said() -> None:
    bodies = list(bench_photographs(36, None))
    assert len(set(bodies)) == 36
    mean = sum(map(len, bodies)) / len(bodies)
    assert 0.8 * TARGET_BYTES < mean < 1.2 * TARGET_BYTES
    assert bodies == list(bench_photographs(36, None))


def test_a_folder_with_too_few_photographs_gives_distinct_bytes(tmp_path: Path) -> None:
    for number in range(3):
        Image.new("RGB", (40, 30), (number * 50, 0, 0)).save(tmp_path / f"{number}.jpg")
    bodies = list(bench_photographs(10, tmp_path))
    assert len(set(bodies)) == 10
    for body in bodies:
        with Image.open(io.BytesIO(body)) as image:
            image.load()


def test_events_of_the_bench_are_upload_events() -> None:
    value = put_notification("bench", "photographs/000 1+2.jpg", "b2ea9f7fcea831a4a63b213f41a8855b", 7, 42)
    assert json.loads(value)["Records"][0]["s3"]["object"]["sequencer"] == f"{42:018X}"
    (parsed,) = parse_message(value)
    assert isinstance(parsed.event, Created)
    assert (parsed.event.bucket, parsed.event.key, parsed.event.size_bytes) == ("bench", "photographs/000 1+2.jpg", 7)
    assert (parsed.event.dialect, parsed.event.etag) == ("aws", "b2ea9f7fcea831a4a63b213f41a8855b")
