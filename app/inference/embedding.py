"""Quantised embeddings: int8 values and one scale, value[i] = int8(values[i]) * scale.

Heads always get the quantised form, fresh or stored. So the score from pixels and a later score from the stored
embedding are the same number, and heads are trained on the same form as they get in operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVELS = 127
"""Largest absolute value. Symmetric int8: -127 … 127; -128 is not used."""
_LEAST_PEAK = LEVELS * float(np.finfo(np.float32).tiny)


@dataclass(frozen=True, slots=True)
class QuantisedEmbedding:
    """One embedding in the form of ContentEmbedding: `values` are signed bytes, `scale` is positive."""

    values: bytes
    scale: float

    @property
    def dimensions(self) -> int:
        """Number of values."""
        return len(self.values)


def quantise(vector: NDArray[np.float32]) -> QuantisedEmbedding:
    """Return a vector rounded to int8, scaled by its largest absolute value. A vector of zeros gets scale 1.

    Vectors whose scale would be too small for the precision of float32 count as zeros.
    """
    peak = float(np.max(np.abs(vector), initial=0.0))
    # float32, as in the rest of the pipeline; the schema's double represents it exactly.
    scale = float(np.float32(peak / LEVELS)) if peak > _LEAST_PEAK else 1.0
    rounded = np.clip(np.rint(vector / np.float32(scale)), -LEVELS, LEVELS).astype(np.int8)
    return QuantisedEmbedding(values=rounded.tobytes(), scale=scale)


def dequantise(embedding: QuantisedEmbedding) -> NDArray[np.float32]:
    """Return the vector for a head."""
    return np.frombuffer(embedding.values, dtype=np.int8).astype(np.float32) * np.float32(embedding.scale)


def matrix(embeddings: Sequence[QuantisedEmbedding]) -> NDArray[np.float32]:
    """Return embeddings as the rows of a float32 matrix."""
    return np.stack([dequantise(embedding) for embedding in embeddings])
