"""One score for each label of a content, from the scores of all its renditions. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from app.domain.renditions import DARK
from schemas.records import ModelScores, Region, Rendition


def merge(scores: Sequence[ModelScores], renditions: Sequence[Rendition], *, whole: bool) -> ModelScores:
    """Return one model's scores of a content: the highest of each label, with the rendition that gave it.

    `scores[i]` belongs to `renditions[i]`. `whole`: only renditions of a whole frame on a light ground count. This is
    for models that rate the photograph as a whole: a part of it may be dark or blurred. A cascade that ran only for
    some renditions counts only for those.
    """
    numbers = [number for number in range(len(scores)) if not whole or number == 0 or _is_whole(renditions[number])]
    ran = [number for number in numbers if not scores[number].skipped]
    numbers = ran or numbers
    labels = []
    for position, first in enumerate(scores[0].labels):
        best = max(numbers, key=lambda number: (scores[number].labels[position].value, -number))
        labels.append(replace(first, value=scores[best].labels[position].value, rendition=best))
    leading = max(numbers, key=lambda number: (max(label.value for label in scores[number].labels), -number))
    regions = tuple(_placed(region, renditions[leading]) for region in scores[leading].regions)
    return replace(scores[leading], labels=tuple(labels), regions=regions)


def merge_all(
    looks: Sequence[Mapping[str, ModelScores]], renditions: Sequence[Rendition], whole: frozenset[str]
) -> dict[str, ModelScores]:
    """Return the merged scores of every model. All `looks` have the same models. `whole`: see `merge`."""
    if len(looks) == 1:
        return dict(looks[0])
    return {name: merge([look[name] for look in looks], renditions, whole=name in whole) for name in looks[0]}


def _is_whole(rendition: Rendition) -> bool:
    edges = (rendition.left, rendition.top, rendition.right, rendition.bottom)
    return edges == (0.0, 0.0, 1.0, 1.0) and rendition.ground != DARK


def _placed(region: Region, rendition: Rendition) -> Region:
    """Return a region of a rendition in coordinates of the whole picture."""
    width, height = rendition.right - rendition.left, rendition.bottom - rendition.top
    return replace(
        region,
        left=round(rendition.left + region.left * width, 6),
        right=round(rendition.left + region.right * width, 6),
        top=round(rendition.top + region.top * height, 6),
        bottom=round(rendition.top + region.bottom * height, 6),
    )
