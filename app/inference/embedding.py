"""Embeddings as they are kept: int8 values and one scale, value[i] = int8(values[i]) * scale.

Heads are always fed the quantised form, fresh or stored: so a score computed today from pixels and one computed in a
year from the stored embedding are the same number, and heads are trained on what they will be given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 127
"""Symmetric int8: -127 … 127; -128 is never written."""
_LEAST_PEAK = LEVELS * float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class QuantisedEmbedding:
    """One embedding as ContentEmbedding stores it: `values` are signed bytes, `scale` a positive number."""

    values: bytes
    scale: float

    @property
    def dimensions(self) -> int:
        """How many values."""
        return len(self.values)


def quantise(vector: NDArray[np.float32]) -> QuantisedEmbedding:
    """Round a vector to int8 with the scale of its own largest value; a vector of zeros gets scale 1.

    Values so small that a float32 scale would lose its precision count as zeros.
    """
    peak = float(np.max(np.abs(vector), initial=0.0))
    # float32, because the rest of the pipeline computes in it; the schema's double holds it exactly.
    scale = float(np.float32(peak / LEVELS)) if peak > _LEAST_PEAK else 1.0
    rounded = np.clip(np.rint(vector / np.float32(scale)), -LEVELS, LEVELS).astype(np.int8)
    return QuantisedEmbedding(values=rounded.tobytes(), scale=scale)


def dequantise(embedding: QuantisedEmbedding) -> NDArray[np.float32]:
    """The vector that a head is given."""
    return np.frombuffer(embedding.values, dtype=np.int8).astype(np.float32) * np.float32(embedding.scale)


def matrix(embeddings: Sequence[QuantisedEmbedding]) -> NDArray[np.float32]:
    """Embeddings as the rows of a float32 matrix."""
    return np.stack([dequantise(embedding) for embedding in embeddings])
