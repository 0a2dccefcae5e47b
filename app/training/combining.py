"""Chooses how a cascade weighs its own score with its gate's: logistic regression on both logits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from app.inference.manifest import logit
from app.inference.model_input import Floats

_ROUNDS = 30
_RIDGE = 1e-3
_DIGITS = 4


def fit_combination(gates: Floats, own: Floats, truth: NDArray[np.bool_]) -> tuple[float, float, float]:
    """The weight of the gate's logit, of the cascade's own, and the bias that make the truth most likely."""
    rows = np.array([(logit(float(a)), logit(float(b)), 1.0) for a, b in zip(gates, own, strict=True)])
    weights = np.zeros(3)
    for _ in range(_ROUNDS):
        likely = 1.0 / (1.0 + np.exp(-rows @ weights))
        slope = rows.T @ (truth - likely) - _RIDGE * weights
        bend = (rows * (likely * (1.0 - likely))[:, None]).T @ rows + _RIDGE * np.eye(3)
        weights = weights + np.linalg.solve(bend, slope)
    rounded = [round(float(value), _DIGITS) for value in weights]
    return rounded[0], rounded[1], rounded[2]
