"""Sets of offsets: repeats, membership and ranges, compared with Python's own sets."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from pyroaring import BitMap64

from app.lake.upkeep.offset_sets import Offsets, add, between, contains, offset_set

# Around the edges of the library's containers (2^16 and 2^32), and far away.
_OFFSET = st.one_of(
    st.integers(0, 40),
    st.integers((1 << 16) - 10, (1 << 16) + 10),
    st.integers((1 << 32) - 3, (1 << 32) + 3),
    st.integers((1 << 62) - 3, (1 << 62) + 3),
)
_MANY = st.lists(_OFFSET, max_size=60)


def _array(numbers: list[int]) -> Offsets:
    return np.array(numbers, np.int64)


@settings(deadline=None)
@given(st.lists(_MANY, max_size=4))
def test_adding_returns_the_repeats(batches: list[list[int]]) -> None:
    known, seen = BitMap64(), Counter[int]()
    for batch in batches:
        before = seen.copy()
        seen.update(batch)
        count, repeated = add(known, _array(batch))
        assert count == seen.total() - len(seen) - (before.total() - len(before))
        assert set(repeated) == {offset for offset in batch if seen[offset] > 1}
    assert list(known) == sorted(seen)


@settings(deadline=None)
@given(_MANY, _MANY)
def test_membership(left: list[int], right: list[int]) -> None:
    known = offset_set(_array(left))
    assert contains(known, _array(right)).tolist() == [offset in set(left) for offset in right]
    assert list(known) == sorted(set(left))


@settings(deadline=None)
@given(_MANY, st.tuples(_OFFSET, _OFFSET))
def test_a_range_is_cut_out_of_a_copy(numbers: list[int], window: tuple[int, int]) -> None:
    known = offset_set(_array(numbers))
    for low, high in (sorted(window), (window[0], window[0]), (max(window), min(window))):
        expected = sorted(offset for offset in set(numbers) if low <= offset < high)
        assert list(between(known, low, high)) == expected
    assert list(known) == sorted(set(numbers))


def test_a_range_far_above_the_offsets_is_quick() -> None:
    assert list(between(offset_set(_array([5, 70_000])), 6, 1 << 62)) == [70_000]


def test_dense_offsets_take_a_bit_each_and_ranges_almost_nothing() -> None:
    """One megabyte holds eight million offsets with gaps everywhere; serialised and in memory are of one size."""
    every_second = offset_set(np.arange(0, 8_000_000, 2, dtype=np.int64))
    assert len(every_second.serialize()) < 1_100_000
    without_gaps = offset_set(np.arange(0, 4_000_000, dtype=np.int64))
    assert len(without_gaps.serialize()) < 2_000
