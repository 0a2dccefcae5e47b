"""Compares what the browser shows of a file with what Sightline makes of it, for the table and for the test."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from tests.support.corpus.case import Case
from tests.support.oracle.chromium import Look, Shown
from tests.support.oracle.means import GROUNDS, worst
from tests.support.oracle.verdict import Judged

# A square whose means on white and on dark are closer than this is opaque.
_OPAQUE: Final = 1.0


@dataclass(frozen=True, slots=True)
class Comparison:
    """One row of the table.

    `problem`: what breaks the rule, empty if nothing does. `worst`: the largest difference in levels, 0 without any.
    """

    case: Case
    shown: str
    scored: str
    difference: str
    problem: str
    worst: float


def compare(case: Case, shown: Shown, judged: Judged) -> Comparison:
    """Return the row of `case`."""
    visible = shows_anything(shown)
    scored = bool(judged.looks)
    far, problem = 0.0, ""
    compared = False
    if visible and not scored and not judged.held:
        problem = f"shown, neither scored nor sent to a person: rejected {judged.reason}"
    elif visible and scored:
        differences, problem = _differences(case, shown, judged)
        compared, far = bool(differences), max(differences, default=0.0)
        if not problem and far > case.closeness.levels:
            problem = f"differs by {far:.1f} levels, at most {case.closeness.levels} are allowed"
    return Comparison(
        case,
        _shown_in_words(shown, visible),
        _scored_in_words(judged),
        f"≤ {case.closeness.levels}" if compared and not problem else "–" if not compared else f"{far:.0f}",
        problem,
        far,
    )


def shows_anything(shown: Shown) -> bool:
    """Return whether a pixel of any frame that was looked at is more than the ground."""
    looks = [shown.look, *shown.frame_looks.values()]
    return any(look is not None and not _is_ground(look) for look in looks)


def _is_ground(look: Look) -> bool:
    return all(worst(look[ground], level) < 0.01 for ground, level in GROUNDS.items())


def _differences(case: Case, shown: Shown, judged: Judged) -> tuple[list[float], str]:
    if (shown.width, shown.height) != (judged.width, judged.height):
        sizes = f"{judged.width} x {judged.height} pixels, shown are {shown.width} x {shown.height}"
        return [], f"another size: {sizes}"
    animated = shown.frames > 1
    if animated and shown.frames - 1 not in judged.looks and shown.frame_looks.get(shown.frames - 1) is not None:
        return [], f"the last frame, {shown.frames - 1}, is not scored"
    pairs: list[tuple[Look, Look]] = []
    if animated:
        # The element shows whatever frame its time has come to.
        frames = ((shown.frame_looks.get(index), look) for index, look in judged.looks.items())
        pairs = [(theirs, ours) for theirs, ours in frames if theirs is not None]
    if not pairs and shown.look is not None:
        pairs = [(shown.look, judged.looks[min(judged.looks)])]
    return [far for theirs, ours in pairs if (far := _far(theirs, ours, case.cut)) is not None], ""


def _far(theirs: Look, ours: Look, cut: bool) -> float | None:
    """Return the worst difference on any ground; None if no square is left to compare."""
    chosen: Any = np.ones(theirs["white"].shape[:2], dtype=bool)
    if cut:
        chosen = np.abs(theirs["white"] - theirs["dark"]).max(axis=2) < _OPAQUE
    if not chosen.any():
        return None
    return max(worst(theirs[ground][chosen], ours[ground][chosen]) for ground in GROUNDS)


def _shown_in_words(shown: Shown, visible: bool) -> str:
    if shown.look is None:
        return "no"
    return "yes" if visible else "blank"


def _scored_in_words(judged: Judged) -> str:
    if judged.looks:
        return "yes, truncated" if judged.truncated else "yes"
    return f"review: `{judged.reason}`" if judged.held else f"no: `{judged.reason}`"
