"""Figures of the last minutes, kept in cells of ten seconds by the time at which a record was written."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from app.domain.durations import Durations

WINDOW_SECONDS: Final = 300
CELL_SECONDS: Final = 10
_CELL_MS: Final = CELL_SECONDS * 1000
_LIVE: Final = "live"
# Names belong to models and policies of this installation; names from a foreign writer must not grow without limit.
_MOST_NAMES: Final = 200


@dataclass(slots=True)
class Figures:
    """Sums of one or several cells. `freshness` is the time from event to outcome of live uploads."""

    outcomes: Counter[str] = field(default_factory=Counter)
    rejections: Counter[str] = field(default_factory=Counter)
    cached: int = 0
    freshness: Durations = field(default_factory=Durations)
    models: Counter[tuple[str, str]] = field(default_factory=Counter)
    policies: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, other: Figures) -> None:
        """Add the counts of `other`."""
        self.outcomes.update(other.outcomes)
        self.rejections.update(other.rejections)
        self.cached += other.cached
        self.freshness.add_all(other.freshness)
        self.models.update(other.models)
        self.policies.update(other.policies)


class Window:
    """Window of the last five minutes. Times are Unix milliseconds; a time in the future counts as now."""

    def __init__(self) -> None:
        self._cells: dict[int, Figures] = {}

    def prediction(self, fields: Mapping[str, Any], written_ms: int, now_ms: int) -> None:
        """Count an ImagePrediction, given by its fields."""
        figures = self._at(written_ms, now_ms)
        if figures is None:
            return
        _count(figures.outcomes, fields["outcome"])
        if fields["outcome"] == "rejected":
            _count(figures.rejections, fields["reason"])
        figures.cached += bool(fields["cached"])
        if fields["lane"] == _LIVE and fields["job_id"] is None:
            figures.freshness.add(fields["scored_at_ms"] - fields["event_time_ms"])
        for entry in fields["scores"]:
            if not entry["skipped"]:
                _count(figures.models, (entry["model"], entry["version"]))

    def flag(self, fields: Mapping[str, Any], written_ms: int, now_ms: int) -> None:
        """Count a FlaggedImage, given by its fields."""
        figures = self._at(written_ms, now_ms)
        if figures is not None:
            _count(figures.policies, (fields["policy"], fields["policy_version"]))

    def total(self, now_ms: int) -> Figures:
        """Return the figures of the whole window."""
        total = Figures()
        for _, figures in self.cells(now_ms):
            total.add(figures)
        return total

    def cells(self, now_ms: int) -> Iterator[tuple[int, Figures]]:
        """Yield all cells of the window, empty ones included, oldest first, each with its start time."""
        last = now_ms // _CELL_MS
        for number in range(last - WINDOW_SECONDS // CELL_SECONDS + 1, last + 1):
            yield number * _CELL_MS, self._cells.get(number) or Figures()

    def _at(self, written_ms: int, now_ms: int) -> Figures | None:
        last = now_ms // _CELL_MS
        oldest = last - WINDOW_SECONDS // CELL_SECONDS + 1
        number = min(written_ms // _CELL_MS, last)
        if number < oldest:
            return None
        if number not in self._cells:
            for expired in [known for known in self._cells if known < oldest]:
                del self._cells[expired]
            self._cells[number] = Figures()
        return self._cells[number]


def _count(counter: Counter[Any], name: Any) -> None:
    if name in counter or len(counter) < _MOST_NAMES:
        counter[name] += 1
