"""Event ids: positions as text, there and back."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.positions import NotPositions, decode_positions, encode_positions


@given(st.lists(st.integers(0, 2**63 - 1), max_size=40))
def test_positions_come_back_as_they_were(offsets: list[int]) -> None:
    positions = dict(enumerate(offsets))
    text = encode_positions(positions)
    assert decode_positions(text) == positions
    assert set(text) <= set(string.ascii_letters + string.digits + "-_")


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda raw: raw.hex()))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        positions = decode_positions(text)
    except NotPositions:
        return
    assert all(0 <= at < 2**63 for at in positions.values())


def test_an_id_of_a_large_topic_is_short() -> None:
    assert len(encode_positions(dict.fromkeys(range(8), 1_000_000))) == 34


@pytest.mark.parametrize("text", ["", "?", "AQ=", "Ag", "AYA", "Af////////////8B", "é", "AQ" + "A" * 20_000, "AQ\n"])
def test_what_was_never_given_out_is_refused(text: str) -> None:
    with pytest.raises(NotPositions):
        decode_positions(text)
