"""The devices that models are tested on: a test that asks for `device` runs on the CPU, and with `-m gpu` on a GPU."""

from __future__ import annotations

from typing import Final

import pytest

# A GPU multiplies with ten bits of mantissa (TensorFloat-32) and takes other kernels for other batch sizes.
_GPU_TOLERANCE: Final = 0.02


@pytest.fixture(scope="module", params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def device(request: pytest.FixtureRequest) -> str:
    """`cpu`, or `gpu` where TensorFlow sees one; without one such tests skip."""
    name: str = request.param
    if name == "gpu":
        from app.inference.tensorflow import claim_gpu, gpu_present

        if not gpu_present():
            pytest.skip("TensorFlow sees no GPU")
        # Here, before anything of a test computes on TensorFlow: later is too late.
        claim_gpu(0)
    return name


def tolerance(device: str, on_cpu: float) -> float:
    """Return how far scores of one picture, computed in two ways, may lie apart on `device`."""
    return on_cpu if device == "cpu" else max(on_cpu, _GPU_TOLERANCE)
