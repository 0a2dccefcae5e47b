"""Stored and fresh embeddings are the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.inference.embedding import QuantisedEmbedding, dequantise, matrix, quantise

values = st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=50)


@given(values)
def test_a_value_moves_by_at_most_half_a_step(row: list[float]) -> None:
    vector = np.array(row, dtype=np.float32)
    kept = quantise(vector)
    assert kept.dimensions == len(row)
    assert np.abs(dequantise(kept) - vector).max() <= kept.scale * 0.5001 + 1e-6


@given(values)
def test_quantising_again_changes_nothing(row: list[float]) -> None:
    once = quantise(np.array(row, dtype=np.float32))
    again = quantise(dequantise(once))
    assert again.values == once.values
    assert again.scale == pytest.approx(once.scale, rel=1e-6)


def test_the_formula_of_the_schema_holds() -> None:
    kept = QuantisedEmbedding(values=np.array([-127, 0, 64], dtype=np.int8).tobytes(), scale=0.5)
    assert dequantise(kept).tolist() == [-63.5, 0.0, 32.0]


def test_nothing_becomes_nothing() -> None:
    kept = quantise(np.zeros(4, dtype=np.float32))
    assert kept.scale == 1.0
    assert dequantise(kept).tolist() == [0.0] * 4


def test_rows_keep_their_own_scale() -> None:
    rows = matrix([quantise(np.array([1.0, 0.5], np.float32)), quantise(np.array([100.0, 50.0], np.float32))])
    assert rows[0].tolist() == pytest.approx([1.0, 0.5], abs=0.01)
    assert rows[1].tolist() == pytest.approx([100.0, 50.0], abs=0.5)
