"""Figures with their spread. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure from several rounds: the median is the figure, the rest says how far to trust it."""

    rounds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure."""
        return statistics.median(self.rounds)

    def as_json(self) -> dict[str, float | list[float]]:
        """Return minimum, maximum and every round."""
        return {
            "min": rounded(min(self.rounds)),
            "max": rounded(max(self.rounds)),
            "rounds": [rounded(value) for value in self.rounds],
        }


def rounded(value: float) -> float:
    """Return `value` with four significant digits: more would pretend to a precision that the spread denies."""
    return float(f"{value:.4g}")


def sustained(moments: Sequence[float], trim: float = 0.1) -> float:
    """Return completions per second between the first and the last tenth of `moments`, which are sorted seconds.

    The first results of a round wait for full batches and the last ones run in half-empty ones; neither is the rate
    that a peak meets. Raises ValueError for fewer than ten moments.
    """
    if len(moments) < 10:
        raise ValueError(f"{len(moments)} completions are too few for a rate")
    cut = max(1, int(len(moments) * trim))
    first, last = cut, len(moments) - cut - 1
    # Completions come in bursts, one for each transaction: a rate over too few of them means nothing.
    return (last - first) / max(moments[last] - moments[first], 1e-9)


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Return the least-squares slope of (x, y) points; 0 for fewer than two distinct x."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope
