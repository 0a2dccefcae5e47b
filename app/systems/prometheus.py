"""Metrics in the Prometheus text format (prometheus-client), with one registry per process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from app.metrics import METRICS, Metric

_Source = Callable[[], Mapping[tuple[str, ...], float]]


@dataclass(frozen=True, slots=True)
class _ReadAtScrape(Collector):
    metric: Metric
    source: _Source

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily]:
        family = CounterMetricFamily if self.metric.kind == "counter" else GaugeMetricFamily
        read = family(self.metric.name, _help(self.metric), labels=self.metric.labels)
        for labels, value in self.source().items():
            read.add_metric(labels, value)
        yield read


class PrometheusMeters:
    """See app.metrics.Meters."""

    def __init__(self, metrics: Iterable[Metric] = METRICS) -> None:
        # `_created` series would double the number of series without use.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        self._metrics = {metric.name: metric for metric in metrics}
        self._rows: dict[str, Any] = {name: self._make(metric) for name, metric in self._metrics.items()}
        # By name and labels as passed, because the library validates and sorts labels at each call.
        self._series: dict[tuple[object, ...], Any] = {}

    def _make(self, metric: Metric) -> Any:
        meaning = _help(metric)
        match metric.kind:
            case "counter":
                return Counter(metric.name, meaning, metric.labels, registry=self._registry)
            case "gauge":
                return Gauge(metric.name, meaning, metric.labels, registry=self._registry)
            case "histogram":
                return Histogram(metric.name, meaning, metric.labels, registry=self._registry, buckets=metric.buckets)

    def _row(self, name: str, labels: dict[str, str]) -> Any:
        series_key = (name, *labels.items())
        series = self._series.get(series_key)
        if series is None:
            row = self._rows[name]
            series = self._series[series_key] = row.labels(**labels) if labels else row
        return series

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """See Meters."""
        self._row(name, labels).inc(amount)

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """See Meters."""
        self._row(name, labels).set(value)

    def observe(self, name: str, value: float, **labels: str) -> None:
        """See Meters."""
        self._row(name, labels).observe(value)

    def read(self, name: str, source: _Source) -> None:
        """See Meters."""
        self._registry.unregister(self._rows.pop(name))
        self._registry.register(_ReadAtScrape(self._metrics[name], source))

    def forget(self, name: str) -> None:
        """See Meters."""
        self._rows[name].clear()
        self._series = {series_key: row for series_key, row in self._series.items() if series_key[0] != name}

    def text(self) -> bytes:
        """Return the page that Prometheus scrapes."""
        return generate_latest(self._registry)


def _help(metric: Metric) -> str:
    return f"{metric.meaning} ({metric.unit})"
