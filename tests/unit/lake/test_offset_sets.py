"""Sets of offsets as bits are sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from app.lake.upkeep.offset_sets import PAGE_OFFSETS, OffsetBits, offsets_of

# Around the edges of bytes and pages, and far away.
_OFFSET = st.one_of(
    st.integers(0, 40),
    st.integers(PAGE_OFFSETS - 10, PAGE_OFFSETS + 10),
    st.integers(10 * PAGE_OFFSETS - 3, 10 * PAGE_OFFSETS + 3),
)
_MANY = st.lists(_OFFSET, max_size=60)


def _bits(numbers: list[int]) -> OffsetBits:
    bits = OffsetBits()
    bits.add(offsets_of(numbers))
    return bits


def _list(bits: OffsetBits) -> list[int]:
    return [int(offset) for chunk in bits.chunks() for offset in chunk]


@settings(deadline=None)
@given(st.lists(_MANY, max_size=4))
def test_adding_tells_what_was_in_already_and_how_often(batches: list[list[int]]) -> None:
    bits, known = OffsetBits(), set()
    for batch in batches:
        again = bits.add(offsets_of(batch)).tolist()
        expected = []
        for offset in batch:
            if offset in known:
                expected.append(offset)
            known.add(offset)
        assert sorted(again) == sorted(expected)
    assert _list(bits) == sorted(known)
    assert len(bits) == len(known)


@settings(deadline=None)
@given(_MANY, _MANY, st.tuples(_OFFSET, _OFFSET))
def test_it_is_a_set(left: list[int], right: list[int], window: tuple[int, int]) -> None:
    one, other = _bits(left), _bits(right)
    assert _list(one.minus(other)) == sorted(set(left) - set(right))
    assert _list(one.both(other)) == sorted(set(left) & set(right))
    assert _list(one.joined(other)) == sorted(set(left) | set(right))
    assert one.contains(offsets_of(right)).tolist() == [offset in set(left) for offset in right]
    low, high = min(window), max(window)
    assert _list(one.between(low, high)) == sorted(offset for offset in set(left) if low <= offset < high)
    assert one.first(3) == sorted(set(left))[:3]
    assert one.last() == max(left, default=-1)
    # None of these changed what it was asked of.
    assert _list(one) == sorted(set(left))


def test_three_hundred_million_offsets_take_38_megabytes() -> None:
    bits = OffsetBits()
    bits.add(np.arange(0, 300_000_000, PAGE_OFFSETS, dtype=np.int64))
    assert bits.nbytes < 38_000_000
