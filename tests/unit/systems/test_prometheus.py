"""Series by the labels they are told with."""

from __future__ import annotations

import pytest

from app.metrics import Metric
from app.systems.prometheus import PrometheusMeters


@pytest.fixture
def meters() -> PrometheusMeters:
    return PrometheusMeters(
        (
            Metric("test_lag_records", "gauge", "records", ("topic", "partition"), "lag"),
            Metric("test_seen_total", "counter", "records", ("topic",), "seen"),
            Metric("test_plain_total", "counter", "records", (), "plain"),
        )
    )


def lines(meters: PrometheusMeters) -> set[str]:
    return {line for line in meters.text().decode().splitlines() if not line.startswith("#")}


def test_one_series_for_each_set_of_labels_however_they_are_ordered(meters: PrometheusMeters) -> None:
    meters.gauge("test_lag_records", 3, topic="a", partition="0")
    meters.gauge("test_lag_records", 5, partition="0", topic="a")
    meters.gauge("test_lag_records", 7, topic="a", partition="1")
    meters.count("test_seen_total", topic="a")
    meters.count("test_seen_total", 2, topic="a")
    meters.count("test_plain_total")
    assert lines(meters) == {
        'test_lag_records{partition="0",topic="a"} 5.0',
        'test_lag_records{partition="1",topic="a"} 7.0',
        'test_seen_total{topic="a"} 3.0',
        "test_plain_total 1.0",
    }


def test_what_is_forgotten_is_gone_and_can_come_again(meters: PrometheusMeters) -> None:
    meters.gauge("test_lag_records", 3, topic="a", partition="0")
    meters.count("test_seen_total", topic="a")
    meters.forget("test_lag_records")
    assert lines(meters) == {'test_seen_total{topic="a"} 1.0', "test_plain_total 0.0"}
    meters.gauge("test_lag_records", 4, topic="a", partition="0")
    assert 'test_lag_records{partition="0",topic="a"} 4.0' in lines(meters)


def test_names_and_labels_that_are_not_declared_are_errors(meters: PrometheusMeters) -> None:
    with pytest.raises(KeyError):
        meters.count("test_other_total")
    with pytest.raises(ValueError, match=r"[Ll]abel"):
        meters.count("test_seen_total", partition="0")
