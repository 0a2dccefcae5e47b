"""The embedding taps of open_nsfw: which inner values of its graph are kept, written as ONNX nodes.

One definition serves all: the int8 artefact is quantised from this graph, and the TensorFlow twin is built from it.
"""

from __future__ import annotations

import onnx
from onnx import TensorProto, helper

from app.errors import ManifestError

EMBEDDING = "embedding"
_BLOCKS_PER_STAGE = (3, 4, 6, 3)


def block_outputs(graph: onnx.GraphProto) -> list[str]:
    """The outputs of the residual blocks in order: every ReLU that follows an addition."""
    sums = {node.output[0] for node in graph.node if node.op_type == "Add"}
    return [node.output[0] for node in graph.node if node.op_type == "Relu" and node.input[0] in sums]


def with_taps(model: onnx.ModelProto) -> onnx.ModelProto:
    """Add the output `embedding`: square roots of the averaged channels of the last stage (1,024) and the one before.

    Square roots, because channel averages have long tails and int8 steps are even. Raises ManifestError on any other
    graph.
    """
    graph = model.graph
    blocks = block_outputs(graph)
    if len(blocks) != sum(_BLOCKS_PER_STAGE):
        raise ManifestError(f"the backbone has {len(blocks)} residual blocks, not {sum(_BLOCKS_PER_STAGE)}")
    parts = []
    for name, output in (("last", blocks[-1]), ("inner", blocks[-1 - _BLOCKS_PER_STAGE[-1]])):
        graph.node.append(
            helper.make_node("GlobalAveragePool", [output], [f"tap_{name}_mean"], name=f"tap_{name}_mean")
        )
        graph.node.append(
            helper.make_node("Flatten", [f"tap_{name}_mean"], [f"tap_{name}_flat"], name=f"tap_{name}_flat", axis=1)
        )
        graph.node.append(helper.make_node("Sqrt", [f"tap_{name}_flat"], [f"tap_{name}"], name=f"tap_{name}"))
        parts.append(f"tap_{name}")
    graph.node.append(helper.make_node("Concat", parts, [EMBEDDING], name="tap_concat", axis=1))
    graph.output.append(helper.make_tensor_value_info(EMBEDDING, TensorProto.FLOAT, ["batch", 1024 + 512]))
    return model
