"""EfficientNet-Lite0 as ONNX nodes: the network of the backbone's branch.

The architecture is that of the authors' `efficientnet_lite_builder.py` (Apache-2.0, Tan and Le 2019 scaled down, ReLU6,
no squeeze-and-excite), which is designed for quantisation. Batch normalisation is folded into the convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

HEAD_CHANNELS = 1280
_STEM_CHANNELS = 32
_STAGES: tuple[tuple[int, int, int, int, int], ...] = (
    # blocks, kernel, stride of the first block, expansion, channels
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)

_RELU6 = {"branch/relu6/low": 0.0, "branch/relu6/high": 6.0}

Weights = Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Convolution:
    """One convolution. `depthwise`: one filter for each channel. `activated`: ReLU6 follows."""

    name: str
    channels_in: int
    channels: int
    kernel: int
    stride: int = 1
    depthwise: bool = False
    activated: bool = True

    @property
    def kernel_shape(self) -> tuple[int, int, int, int]:
        """Shape of the kernel: output, input per group, height, width."""
        return (self.channels, 1 if self.depthwise else self.channels_in, self.kernel, self.kernel)


@dataclass(frozen=True, slots=True)
class Block:
    """Sequence of convolutions. `residual`: the block's input is added to its output."""

    convolutions: tuple[Convolution, ...]
    residual: bool = False

    @property
    def output(self) -> str:
        """Name of the block's output."""
        return f"{self.convolutions[-1].name}/sum" if self.residual else _output(self.convolutions[-1])


def blocks() -> Iterator[Block]:
    """Yield the blocks of the network from stem to head."""
    yield Block((Convolution("branch/stem", 3, _STEM_CHANNELS, 3, stride=2),))
    channels, number = _STEM_CHANNELS, 0
    for repeats, kernel, first_stride, expansion, wanted in _STAGES:
        for repeat in range(repeats):
            name, stride, wide = f"branch/{number}", first_stride if repeat == 0 else 1, channels * expansion
            expand = (Convolution(f"{name}/expand", channels, wide, 1),) if expansion > 1 else ()
            yield Block(
                (
                    *expand,
                    Convolution(f"{name}/depthwise", wide, wide, kernel, stride=stride, depthwise=True),
                    Convolution(f"{name}/project", wide, wanted, 1, activated=False),
                ),
                residual=repeat > 0,
            )
            channels, number = wanted, number + 1
    yield Block((Convolution("branch/head", channels, HEAD_CHANNELS, 1),))


def weight_names() -> Iterator[tuple[Convolution, str, str]]:
    """Yield each convolution with the names of its kernel and bias."""
    for block in blocks():
        for convolution in block.convolutions:
            yield convolution, f"{convolution.name}/kernel", f"{convolution.name}/bias"


def add_network(graph: onnx.GraphProto, source: str, weights: Weights) -> str:
    """Append the network after `source` (NCHW, sides a multiple of 32). Return the name of its last map."""
    for name, limit in _RELU6.items():
        graph.initializer.append(numpy_helper.from_array(np.float32(limit), name))
    for block in blocks():
        value = source
        for convolution in block.convolutions:
            value = _add_convolution(graph, value, convolution, weights)
        if block.residual:
            graph.node.append(helper.make_node("Add", [source, value], [block.output], name=block.output))
        source = block.output
    return source


def _add_convolution(graph: onnx.GraphProto, source: str, convolution: Convolution, weights: Weights) -> str:
    names = [f"{convolution.name}/kernel", f"{convolution.name}/bias"]
    graph.initializer.extend(numpy_helper.from_array(weights[name], name) for name in names)
    # Padding "same" as in TensorFlow for even sides: with stride 2 the odd pixel of padding comes last.
    padding = convolution.kernel - 1 if convolution.stride == 1 else convolution.kernel - 2
    before, after = padding // 2, padding - padding // 2
    node = helper.make_node(
        "Conv",
        [source, *names],
        [f"{convolution.name}/sums"],
        name=convolution.name,
        kernel_shape=[convolution.kernel, convolution.kernel],
        strides=[convolution.stride, convolution.stride],
        pads=[before, before, after, after],
        group=convolution.channels if convolution.depthwise else 1,
    )
    graph.node.append(node)
    if convolution.activated:
        relu6 = helper.make_node(
            "Clip", [f"{convolution.name}/sums", *_RELU6], [_output(convolution)], name=f"{convolution.name}/relu6"
        )
        graph.node.append(relu6)
    return _output(convolution)


def _output(convolution: Convolution) -> str:
    return f"{convolution.name}/map" if convolution.activated else f"{convolution.name}/sums"
