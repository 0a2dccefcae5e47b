"""Thin marks are text with a place; whole objects are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.inference.manifest import ModelManifest, read_manifest
from app.inference.text_regions import text_regions

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def manifest() -> ModelManifest:
    return read_manifest(ROOT / "models" / "embedded_text" / "1" / "model.yaml")


def marks(*boxes: tuple[int, int, int, int], level: float = 0.9) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    found = np.zeros((1, 320, 256), dtype=np.float32)
    for left, top, right, bottom in boxes:
        found[0, top:bottom, left:right] = level
    return found


def test_an_empty_map_scores_nothing(manifest: ModelManifest) -> None:
    assert text_regions(marks(), manifest) == (0.0, ())


def test_a_line_is_found_where_it_is(manifest: ModelManifest) -> None:
    score, regions = text_regions(marks((64, 160, 192, 176)), manifest)
    assert score > 0.6
    (region,) = regions
    assert region.left < 64 / 256 < 192 / 256 < region.right
    assert region.top < 160 / 320 < 176 / 320 < region.bottom
    assert (region.top + region.bottom) / 2 == pytest.approx(168 / 320, abs=0.01)


def test_a_whole_object_does_not_count(manifest: ModelManifest) -> None:
    assert text_regions(marks((40, 40, 200, 280)), manifest) == (0.0, ())


def test_a_turned_line_is_as_thin_as_a_level_one(manifest: ModelManifest) -> None:
    found = np.zeros((1, 320, 256), dtype=np.float32)
    for step in range(150):
        found[0, 60 + step : 72 + step, 50 + step : 62 + step] = 0.9
    score, regions = text_regions(found, manifest)
    assert score > 0.6
    assert len(regions) == 1


def test_longer_surer_and_larger_lines_score_higher_and_come_first(manifest: ModelManifest) -> None:
    short, _ = text_regions(marks((10, 10, 30, 22)), manifest)
    long, _ = text_regions(marks((10, 10, 130, 22)), manifest)
    faint, _ = text_regions(marks((10, 10, 130, 22), level=0.5), manifest)
    assert short < long
    assert faint < long
    _, regions = text_regions(marks((10, 10, 30, 22), (10, 100, 200, 116)), manifest)
    assert [region.top > 0.2 for region in regions] == [True, False]


def test_regions_stay_inside_the_picture(manifest: ModelManifest) -> None:
    _, regions = text_regions(marks((0, 0, 256, 20), (0, 300, 256, 320)), manifest)
    assert len(regions) == 2
    for region in regions:
        assert 0.0 <= region.left < region.right <= 1.0
        assert 0.0 <= region.top < region.bottom <= 1.0
