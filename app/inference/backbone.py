"""The embedding of open_nsfw: which inner values are kept, and a branch that was tuned for things for sale.

    … stage 3 block 0 ─┬─ blocks 1, 2 as their authors trained them ─► mean ─► sqrt ─► 1,024 values ─► nsfw classifier
     │                 └─ the same two blocks, tuned on photographs ─► mean ─► sqrt ─► 256 values
     └ stage 2 ─► mean ─► sqrt ─► 512 values

One definition serves all: the int8 artefact is quantised from this graph, and the TensorFlow twin is built from it. The
scores of nsfw are untouched by the branch.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app.errors import ManifestError

EMBEDDING = "embedding"
LAST_VALUES, INNER_VALUES, BRANCH_VALUES = 1024, 512, 256
_BLOCKS_PER_STAGE = (3, 4, 6, 3)
_BRANCH_BLOCKS = 2
_BRANCH_CONVOLUTIONS = 6

Weights = Mapping[str, NDArray[np.float32]]
"""Of the branch: kernel_0 … kernel_5 (output, input, height, width), bias_0 … bias_5, squeeze_kernel, squeeze_bias."""


def read_branch(path: Path) -> Weights:
    """The branch's weights, kept as float16; raises ManifestError where the file is another one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            weights = {name: file[name].astype(np.float32) for name in file.files}
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: cannot be read: {error}") from error
    wanted = {f"{part}_{i}" for part in ("kernel", "bias") for i in range(_BRANCH_CONVOLUTIONS)}
    if set(weights) != wanted | {"squeeze_kernel", "squeeze_bias"}:
        raise ManifestError(f"{path}: holds {sorted(weights)}, not the weights of a branch")
    return weights


def block_outputs(graph: onnx.GraphProto) -> list[str]:
    """The outputs of the residual blocks in order: every ReLU that follows an addition."""
    sums = {node.output[0] for node in graph.node if node.op_type == "Add"}
    return [node.output[0] for node in graph.node if node.op_type == "Relu" and node.input[0] in sums]


def with_embedding(model: onnx.ModelProto, branch: Weights) -> onnx.ModelProto:
    """Add branch and output `embedding` to open_nsfw's graph; raises ManifestError on any other graph.

    Square roots, because channel means have long tails and int8 steps are even.
    """
    graph = model.graph
    blocks = block_outputs(graph)
    if len(blocks) != sum(_BLOCKS_PER_STAGE):
        raise ManifestError(f"the backbone has {len(blocks)} residual blocks, not {sum(_BLOCKS_PER_STAGE)}")
    tuned = _add_branch(graph, blocks[-1 - _BRANCH_BLOCKS], blocks[-1], branch)
    parts = [
        _add_mean(graph, "last", blocks[-1]),
        _add_mean(graph, "inner", blocks[-1 - _BLOCKS_PER_STAGE[-1]]),
        _add_squeeze(graph, _add_mean(graph, "branch", tuned), branch),
    ]
    graph.node.append(helper.make_node("Concat", parts, [EMBEDDING], name="tap_concat", axis=1))
    values = LAST_VALUES + INNER_VALUES + BRANCH_VALUES
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", values]))
    return model


def _add_mean(graph: onnx.GraphProto, name: str, source: str) -> str:
    steps: tuple[tuple[str, str, dict[str, int]], ...] = (
        ("GlobalAveragePool", "mean", {}),
        ("Flatten", "flat", {"axis": 1}),
        ("Sqrt", "sqrt", {}),
    )
    for operator, step, attributes in steps:
        target = f"tap_{name}_{step}"
        graph.node.append(helper.make_node(operator, [source], [target], name=target, **attributes))
        source = target
    return source


def _add_squeeze(graph: onnx.GraphProto, source: str, branch: Weights) -> str:
    for name in ("squeeze_kernel", "squeeze_bias"):
        graph.initializer.append(numpy_helper.from_array(branch[name], f"tap_{name}"))
    graph.node.append(helper.make_node("MatMul", [source, "tap_squeeze_kernel"], ["tap_squeezed"], name="tap_squeezed"))
    graph.node.append(helper.make_node("Add", ["tap_squeezed", "tap_squeeze_bias"], ["tap_branch"], name="tap_branch"))
    return "tap_branch"


def _add_branch(graph: onnx.GraphProto, source: str, end: str, branch: Weights) -> str:
    """Copy the nodes from `source` to `end` with the branch's weights; returns the copy of `end`."""
    names = [node.output[0] for node in graph.node]
    originals = list(graph.node)[names.index(source) + 1 : names.index(end) + 1]
    renamed = {source: source}
    convolutions = 0
    for node in originals:
        renamed[node.output[0]] = f"branch/{node.output[0]}"
        inputs = [renamed[name] for name in node.input if name in renamed]
        if node.op_type == "Conv":
            for part in ("kernel", "bias"):
                name = f"{part}_{convolutions}"
                graph.initializer.append(numpy_helper.from_array(branch[name], f"branch/{name}"))
                inputs.append(f"branch/{name}")
            convolutions += 1
        copy = helper.make_node(node.op_type, inputs, [renamed[node.output[0]]], name=f"branch/{node.name}")
        copy.attribute.extend(node.attribute)
        graph.node.append(copy)
    return renamed[end]
