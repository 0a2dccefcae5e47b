"""Backbone: open_nsfw, and a branch that was tuned for articles for sale and for text overlays.

    picture 256 × 256 ─┬─ centre 224 × 224 ─► open_nsfw ─┬─► nsfw classifier
                       │                                 ├─► last stage ─► mean ─► sqrt ─► 1,024 values
                       │                                 └─► stage before ─► mean ─► sqrt ─► 512 values
                       └─ EfficientNet-Lite0, tuned ─► mean ─► sqrt, and maximum ─► squeeze ─► 256 values

The int8 artefact is quantised from this graph, and the TensorFlow twin is built from it. The scores of nsfw are those
of the package's network. The branch gets the whole picture, because overlaid text is often at its edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, version_converter

from app.errors import ManifestError
from app.inference.efficientnet import Weights, add_network, weight_names

EMBEDDING = "embedding"
INPUT_SIDE_PIXELS = 256
LAST_VALUES, INNER_VALUES, BRANCH_VALUES = 1024, 512, 256
SQUEEZE = ("branch/squeeze/kernel", "branch/squeeze/bias")
TAP = "tap/"
"""Prefix of the nodes that stay in float when the others are quantised."""
_OPSET = 13  # the first with int8 scales per channel
_CENTRE_SIDE_PIXELS = 224
_BLOCKS_PER_STAGE = (3, 4, 6, 3)
_Step = tuple[str, list[str], dict[str, int]]
_FLATTEN: _Step = ("Flatten", [], {"axis": 1})
_MEAN: tuple[_Step, ...] = (("GlobalAveragePool", [], {}), _FLATTEN)


def read_branch(path: Path) -> Weights:
    """Return the branch's weights, which are stored as float16. Raises ManifestError for any other file."""
    try:
        with np.load(path, allow_pickle=False) as file:
            weights = {name: file[name].astype(np.float32) for name in file.files}
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: cannot be read: {error}") from error
    wanted = {name for _, *names in weight_names() for name in names} | set(SQUEEZE)
    if set(weights) != wanted:
        raise ManifestError(f"{path}: holds {sorted(weights)[:4]} and others, not the weights of a branch")
    return weights


def block_outputs(graph: onnx.GraphProto) -> list[str]:
    """Return the outputs of the residual blocks in order: every ReLU after an addition."""
    sums = {node.output[0] for node in graph.node if node.op_type == "Add"}
    return [node.output[0] for node in graph.node if node.op_type == "Relu" and node.input[0] in sums]


def backbone_graph(open_nsfw: Path, branch: Weights) -> onnx.ModelProto:
    """Return open_nsfw's network with the branch and the output `embedding`, float32.

    Square roots are applied because channel means have long tails and int8 steps are uniform. Raises ManifestError for
    any other graph.
    """
    model = version_converter.convert_version(onnx.load(str(open_nsfw)), _OPSET)
    graph = model.graph
    outputs = block_outputs(graph)
    if len(outputs) != sum(_BLOCKS_PER_STAGE) or graph.node[0].op_type != "Transpose":
        raise ManifestError(f"{open_nsfw}: is not open_nsfw: {len(outputs)} residual blocks")
    whole = _see_the_whole_picture(graph)
    network = onnx.GraphProto()
    last = add_network(network, whole, branch)
    graph.node.extend(network.node)
    graph.initializer.extend(network.initializer)
    parts = [
        _add_mean(graph, "last", outputs[-1]),
        _add_mean(graph, "inner", outputs[-1 - _BLOCKS_PER_STAGE[-1]]),
        _add_squeeze(graph, add_pooling(graph, last), branch),
    ]
    graph.node.append(helper.make_node("Concat", parts, [EMBEDDING], name=f"{TAP}concat", axis=1))
    values = LAST_VALUES + INNER_VALUES + BRANCH_VALUES
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", values]))
    return model


def add_pooling(graph: onnx.GraphProto, source: str) -> str:
    """Add the pooling of the branch's last map and return its output: mean (motif) and maximum (text may be small)."""
    # Slightly above zero, where the square root has an infinite slope, which cannot be trained.
    floor = f"{TAP}branch/floor"
    graph.initializer.append(numpy_helper.from_array(np.float32(1e-6), floor))
    parts = [
        _add_steps(graph, "branch", source, (*_MEAN, ("Add", [floor], {}), ("Sqrt", [], {}))),
        _add_steps(graph, "branch_peak", source, (("GlobalMaxPool", [], {}), _FLATTEN)),
    ]
    pooled = f"{TAP}branch_pooled"
    graph.node.append(helper.make_node("Concat", parts, [pooled], name=pooled, axis=1))
    return pooled


def _see_the_whole_picture(graph: onnx.GraphProto) -> str:
    """Widen the input to the whole picture and crop the centre for open_nsfw. Return the whole picture, NCHW."""
    del graph.value_info[:]  # shapes for the narrower input
    for dimension in graph.input[0].type.tensor_type.shape.dim[1:3]:
        dimension.dim_value = INPUT_SIDE_PIXELS
    whole = str(graph.node[0].output[0])
    centre = f"{TAP}centre"
    for node in graph.node:
        node.input[:] = [centre if name == whole else name for name in node.input]
    margin = (INPUT_SIDE_PIXELS - _CENTRE_SIDE_PIXELS) // 2
    limits = {"starts": (margin, margin), "ends": (margin + _CENTRE_SIDE_PIXELS,) * 2, "axes": (2, 3)}
    names = []
    for name, values in limits.items():
        names.append(f"{centre}/{name}")
        graph.initializer.append(numpy_helper.from_array(np.array(values, dtype=np.int64), names[-1]))
    graph.node.insert(1, helper.make_node("Slice", [whole, *names], [centre], name=centre))
    return whole


def _add_mean(graph: onnx.GraphProto, name: str, source: str) -> str:
    return _add_steps(graph, name, source, (*_MEAN, ("Sqrt", [], {})))


def _add_steps(graph: onnx.GraphProto, name: str, source: str, steps: Sequence[_Step]) -> str:
    for operator, constants, attributes in steps:
        target = f"{TAP}{name}/{operator}"
        graph.node.append(helper.make_node(operator, [source, *constants], [target], name=target, **attributes))
        source = target
    return source


def _add_squeeze(graph: onnx.GraphProto, source: str, branch: Weights) -> str:
    kernel, bias = SQUEEZE
    for name in SQUEEZE:
        graph.initializer.append(numpy_helper.from_array(branch[name], name))
    products, squeezed = f"{TAP}squeeze/products", f"{TAP}squeeze"
    graph.node.append(helper.make_node("MatMul", [source, kernel], [products], name=products))
    graph.node.append(helper.make_node("Add", [products, bias], [squeezed], name=squeezed))
    return squeezed
