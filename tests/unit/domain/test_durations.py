"""Quantiles of the histogram against exact ones."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from app.domain.durations import Durations

_DURATIONS = st.lists(st.integers(-1_000, 90 * 86_400_000), min_size=1, max_size=200)


@given(_DURATIONS, st.sampled_from([0.01, 0.5, 0.9, 0.95, 0.99, 1.0]))
def test_quantiles_are_within_two_and_a_half_percent(durations: list[int], share: float) -> None:
    histogram = Durations()
    for duration in durations:
        histogram.add(duration)
    exact = max(0, sorted(durations)[max(1, math.ceil(share * len(durations))) - 1])
    found = histogram.quantile_ms(share)
    assert found is not None
    assert abs(found - exact) <= 0.0251 * exact
    assert (histogram.count, histogram.longest_ms) == (len(durations), max(0, *durations))


@given(_DURATIONS, _DURATIONS)
def test_two_histograms_together_are_one_of_both(first: list[int], second: list[int]) -> None:
    whole, one, other = Durations(), Durations(), Durations()
    for duration in (*first, *second):
        whole.add(duration)
    for duration in first:
        one.add(duration)
    for duration in second:
        other.add(duration)
    one.add_all(other)
    assert [one.quantile_ms(share) for share in (0.1, 0.5, 1.0)] == [
        whole.quantile_ms(share) for share in (0.1, 0.5, 1.0)
    ]


def test_of_nothing_there_is_no_quantile() -> None:
    assert Durations().quantile_ms(0.5) is None
