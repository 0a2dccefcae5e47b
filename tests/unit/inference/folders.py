"""Model folders made for a test: a tiny ONNX network and a tiny Keras head, complete with golden sets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from app.inference.embedding import quantise
from app.inference.golden import record_head, record_network
from app.inference.manifest import read_manifest
from app.inference.onnx import load_onnx
from app.inference.tensorflow import load_head
from app.training.folder import artefact, write_manifest

COMMON: dict[str, Any] = {
    "activation": "sigmoid",
    "multi_label": True,
    "batch": {"max_batch": 4, "max_delay_ms": 5},
    "owner": "tests",
    "licence": "Apache-2.0",
    "trained_on": "nothing",
}


def network_values(folder: Path, **changes: Any) -> dict[str, Any]:
    """The manifest of a network whose score is the mean red and whose embedding is the mean colour."""
    return {
        "name": folder.parent.name,
        "version": folder.name,
        "kind": "network",
        "runtime": "onnx",
        "artefact": artefact(folder, "mean.onnx"),
        "input": {
            "height": 8,
            "width": 8,
            "colour_order": "rgb",
            "layout": "nchw",
            "scale": [1 / 255, 1 / 255, 1 / 255],
            "preprocessing_version": "mean-1",
        },
        "outputs": {"scores": "scores", "embedding": "embedding"},
        "embedding_dimensions": 3,
        "labels": ["red"],
        "golden": {"onnx": {"scores": 0.01, "embedding_cosine": 0.999}},
        **COMMON,
        **changes,
    }


def write_network(models_dir: Path, name: str = "mean", version: str = "1", **changes: Any) -> Path:
    """Write a network folder and record its golden set."""
    folder = models_dir / name / version
    (folder / "golden").mkdir(parents=True)
    onnx.save(_mean_graph(), str(folder / "mean.onnx"))
    for colour in ("red", "teal"):
        Image.new("RGB", (10, 12), colour).save(folder / "golden" / f"{colour}.png")
    write_manifest(folder, network_values(folder, **changes))
    record_network(load_onnx(read_manifest(folder / "model.yaml"), 1))
    return folder


def write_head(models_dir: Path, name: str = "warm", *, of: str = "mean@1", **changes: Any) -> Path:
    """Write a head folder: the sigmoid of twice red less twice blue."""
    import keras

    folder = models_dir / name / "1"
    folder.mkdir(parents=True)
    source = keras.Input((3,))
    layer = keras.layers.Dense(1, activation="sigmoid")
    model = keras.Model(source, layer(source))
    layer.set_weights([np.array([[2.0], [0.0], [-2.0]], dtype=np.float32), np.zeros(1, dtype=np.float32)])
    model.save(folder / "head.keras")
    write_manifest(
        folder,
        {
            "name": name,
            "version": "1",
            "kind": "head",
            "runtime": "keras",
            "artefact": artefact(folder, "head.keras"),
            "embedding_of": of,
            "embedding_dimensions": 3,
            "labels": ["warm"],
            "golden": {"keras": {"scores": 0.01}},
            **COMMON,
            **changes,
        },
    )
    inputs = [quantise(np.array(row, dtype=np.float32)) for row in ((1, 0, 0), (0, 0.5, 1))]
    record_head(load_head(read_manifest(folder / "model.yaml"), 1), inputs)
    return folder


def _mean_graph() -> onnx.ModelProto:
    pick = numpy_helper.from_array(np.array([[1.0], [0.0], [0.0]], dtype=np.float32), "pick")
    nodes = [
        helper.make_node("GlobalAveragePool", ["pixels"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["embedding"], axis=1),
        helper.make_node("MatMul", ["embedding", "pick"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 1]),
            helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 3]),
        ],
        [pick],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
