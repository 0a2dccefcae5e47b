"""Meters that a test can read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from app.metrics import metric_of


class CountedMeters:
    """`Meters` that keep counters as `counts[name, label, …]` and gauges as `gauges[name]`; names must be declared."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.gauges: dict[str, float] = {}
        self.observed: Counter[str] = Counter()

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        assert set(labels) == set(metric_of(name).labels)
        self.counts[(name, *labels.values())] += int(amount)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        assert set(labels) == set(metric_of(name).labels)
        self.gauges[name] = value

    def observe(self, name: str, value: float, **labels: str) -> None:
        assert set(labels) == set(metric_of(name).labels)
        self.observed[name] += 1

    def read(self, name: str, source: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        metric_of(name)

    def forget(self, name: str) -> None:
        metric_of(name)
