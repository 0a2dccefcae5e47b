"""One score for each label of a content: the highest over its renditions."""

from __future__ import annotations

from app.inference.merging import merge, merge_all
from schemas.records import LabelScore, ModelScores, Region, Rendition

WHOLE = Rendition(0, 0.0, 0.0, 1.0, 1.0, "")
RIGHT_HALF = Rendition(0, 0.5, 0.0, 1.0, 1.0, "")
SECOND = Rendition(7, 0.0, 0.0, 1.0, 1.0, "white")
SECOND_DARK = Rendition(7, 0.0, 0.0, 1.0, 1.0, "dark")


def says(*values: float, regions: tuple[Region, ...] = (), skipped: str = "") -> ModelScores:
    labels = tuple(LabelScore(name, value) for name, value in zip("ab", values, strict=False))
    return ModelScores("m", "1", "p", labels, regions, False, skipped)


def found(scores: ModelScores) -> list[tuple[str, float, int]]:
    return [(one.label, one.value, one.rendition) for one in scores.labels]


def test_each_label_has_its_highest_score_and_names_the_rendition() -> None:
    merged = merge([says(0.1, 0.9), says(0.8, 0.2)], [WHOLE, SECOND], whole=False)
    assert found(merged) == [("a", 0.8, 1), ("b", 0.9, 0)]


def test_equal_scores_name_the_first_rendition() -> None:
    assert found(merge([says(0.5), says(0.5)], [WHOLE, SECOND], whole=False)) == [("a", 0.5, 0)]


def test_a_model_of_whole_photographs_sees_no_parts_and_no_dark_ground() -> None:
    renditions = [WHOLE, RIGHT_HALF, SECOND, SECOND_DARK]
    merged = merge([says(0.1), says(0.9), says(0.3), says(0.8)], renditions, whole=True)
    assert found(merged) == [("a", 0.3, 2)]


def test_a_cascade_counts_where_it_ran() -> None:
    merged = merge([says(0.4, skipped="gate"), says(0.2)], [WHOLE, SECOND], whole=False)
    assert found(merged) == [("a", 0.2, 1)] and merged.skipped == ""
    skipped = merge([says(0.1, skipped="one"), says(0.2, skipped="two")], [WHOLE, SECOND], whole=False)
    assert found(skipped) == [("a", 0.2, 1)] and skipped.skipped == "two"


def test_boxes_are_those_of_the_leading_rendition_in_the_whole_picture() -> None:
    part = Region(0.0, 0.5, 0.5, 1.0, 0.7)
    merged = merge(
        [says(0.1, regions=(Region(0, 0, 1, 1, 0.1),)), says(0.9, regions=(part,))], [WHOLE, RIGHT_HALF], whole=False
    )
    assert merged.regions == (Region(0.5, 0.5, 0.75, 1.0, 0.7),)


def test_one_rendition_is_passed_on_as_it_is() -> None:
    scores = {"m": says(0.1, 0.2)}
    assert merge_all([scores], [WHOLE], frozenset()) == scores
