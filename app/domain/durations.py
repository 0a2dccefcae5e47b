"""Quantiles of many durations in bounded memory: a histogram whose cells grow by a constant factor."""

from __future__ import annotations

import math
from collections import Counter
from typing import Final

# Each cell is 5 % longer than the previous one. A quantile is reported as the middle of its cell: at most 2.5 % off.
_GROWTH: Final = 1.05
_LOG_GROWTH: Final = math.log(_GROWTH)
# 100 days; longer durations count as 100 days. This bounds the histogram to 464 cells.
_LONGEST_MS: Final = 100 * 86_400_000


class Durations:
    """A histogram of durations from 1 ms (shorter ones count as 0) to 100 days; the longest is known exactly."""

    __slots__ = ("_cells", "count", "longest_ms")

    def __init__(self) -> None:
        self._cells: Counter[int] = Counter()
        self.count = 0
        self.longest_ms = 0

    def add(self, duration_ms: int) -> None:
        """Count one duration; a negative one (clocks that differ) counts as 0."""
        kept = min(_LONGEST_MS, max(0, duration_ms))
        self._cells[-1 if kept < 1 else int(math.log(kept) / _LOG_GROWTH)] += 1
        self.count += 1
        self.longest_ms = max(self.longest_ms, duration_ms)

    def add_all(self, other: Durations) -> None:
        """Add the counts of `other`."""
        self._cells.update(other._cells)
        self.count += other.count
        self.longest_ms = max(self.longest_ms, other.longest_ms)

    def quantile_ms(self, share: float) -> float | None:
        """Return the duration that `share` (0 to 1) of all do not exceed, within 2.5 %, or None without durations."""
        rank = max(1, math.ceil(share * self.count))
        for cell in sorted(self._cells):
            rank -= self._cells[cell]
            if rank <= 0:
                middle = 0.0 if cell < 0 else math.exp((cell + 0.5) * _LOG_GROWTH)
                return min(middle, float(self.longest_ms))
        return None
