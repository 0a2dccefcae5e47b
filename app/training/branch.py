"""Tunes the backbone's branch: the last two blocks of open_nsfw, trained on to tell things for sale apart.

The blocks start from their authors' weights and see what the float network's stage before makes of each picture, which
is computed once per view. nsfw's own path is not touched. The result is float16 weights that
`app/inference/backbone.py` grafts into the graph.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from app.inference.backbone import BRANCH_VALUES, block_outputs
from app.inference.preprocessing import normalise, prepare
from app.inference.runtime import Floats, ImageInput
from app.training.backbone import package_artefact
from app.training.options import Progress
from app.training.pictures import LabelledPictures, View, as_picture, class_indices, mirrored, open_rgb, plain, varied

_BATCH = 64
_CHUNK = 16
_VARIED_VIEWS = 8
VIEWS = 2 + _VARIED_VIEWS
"""How many views of each picture are seen: plain, mirrored, varied."""
_LEARNING_RATE = 2e-4
_EMBEDDING_SCALE = 0.5
"""The squeezed values are normalised to about ±4; halved, they share one int8 scale well with the rest."""


def train_branch(
    pictures: LabelledPictures,
    spec: ImageInput,
    target: Path,
    *,
    epochs: int,
    seed: int,
    threads: int,
    progress: Progress,
) -> None:
    """Write the branch's weights. Holds about 100 KB of memory per picture and view; tens of minutes on two cores.

    Deterministic: the same pictures, seed, epochs and threads on the same kind of CPU write the same bytes.
    """
    tensorflow.config.experimental.enable_op_determinism()
    views: list[tuple[View, str]] = [(plain, "0"), (mirrored, "0")]
    views += [(varied, f"branch/{number}") for number in range(_VARIED_VIEWS)]
    maps = [_maps(pictures.paths, spec, view, state, threads, progress) for view, state in views]
    classes = pictures.classes
    truth = class_indices(pictures.labels, classes)
    keras.utils.set_random_seed(seed)
    model = build(len(classes))
    steps = max(1, len(truth) // _BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, epochs * steps, warmup_target=_LEARNING_RATE, warmup_steps=min(60, steps)
    )
    model.compile(
        keras.optimizers.AdamW(schedule, weight_decay=1e-3, clipnorm=1.0),
        keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1),
    )
    targets = keras.utils.to_categorical(truth, len(classes))
    generator = np.random.default_rng(seed)
    for epoch in range(epochs):
        order = generator.permutation(len(truth))
        for step in range(steps):
            chosen = order[step * _BATCH : (step + 1) * _BATCH]
            drawn = generator.integers(0, len(maps), len(chosen))
            rows = np.stack([maps[view][index] for view, index in zip(drawn, chosen, strict=True)])
            loss = model.train_on_batch(rows.astype(np.float32), targets[chosen])
            progress(f"branch, epoch {epoch + 1}, loss {float(loss):.3f}", epoch * steps + step + 1, epochs * steps)
    arrays: dict[str, Any] = dict(weights(model))
    np.savez_compressed(target, **arrays)


def build(classes: int) -> Any:
    """The two blocks with their authors' weights, channels last, then mean, square root, squeeze and a classifier."""
    graph = onnx.load(str(package_artefact())).graph
    constants = {one.name: numpy_helper.to_array(one) for one in graph.initializer}
    blocks = block_outputs(graph)
    nodes = list(graph.node)
    names = [node.output[0] for node in nodes]
    layers = keras.layers
    source = keras.Input((7, 7, 1024))
    values = {blocks[-3]: source}
    count = 0
    for node in nodes[names.index(blocks[-3]) + 1 : names.index(blocks[-1]) + 1]:
        inputs = [values[name] for name in node.input if name in values]
        match node.op_type:
            case "Conv":
                kernel = np.transpose(constants[node.input[1]], (2, 3, 1, 0))
                padding = "same" if kernel.shape[0] > 1 else "valid"
                layer = layers.Conv2D(kernel.shape[3], kernel.shape[:2], padding=padding, name=f"convolution_{count}")
                values[node.output[0]] = layer(inputs[0])
                layer.set_weights([kernel, constants[node.input[2]]])
                count += 1
            case "Add":
                values[node.output[0]] = layers.Add()(inputs)
            case _:
                values[node.output[0]] = layers.ReLU()(inputs[0])
    pooled = layers.GlobalAveragePooling2D()(values[blocks[-1]])
    kept = layers.Dropout(0.3)(keras.ops.sqrt(pooled + 1e-6))
    squeezed = layers.Dense(BRANCH_VALUES, name="squeeze", kernel_regularizer=keras.regularizers.L2(1e-4))(kept)
    spread = layers.Dropout(0.4)(layers.BatchNormalization(name="spread")(squeezed))
    answer = layers.Dense(classes, name="classes", kernel_regularizer=keras.regularizers.L2(1e-4))(spread)
    return keras.Model(source, answer)


def weights(model: Any) -> dict[str, NDArray[np.float16]]:
    """What `backbone.read_branch` reads; the normalisation is folded into the squeeze."""
    found: dict[str, Floats] = {}
    for index in range(6):
        kernel, bias = model.get_layer(f"convolution_{index}").get_weights()
        found[f"kernel_{index}"], found[f"bias_{index}"] = np.transpose(kernel, (3, 2, 0, 1)), bias
    kernel, bias = model.get_layer("squeeze").get_weights()
    spread = model.get_layer("spread")
    gamma, beta, mean, variance = spread.get_weights()
    factor = gamma / np.sqrt(variance + spread.epsilon) * _EMBEDDING_SCALE
    found["squeeze_kernel"] = kernel * factor
    found["squeeze_bias"] = (bias - mean) * factor + beta * _EMBEDDING_SCALE
    return {name: value.astype(np.float16) for name, value in found.items()}


def _maps(
    paths: Sequence[Path], spec: ImageInput, view: View, state: str, threads: int, progress: Progress
) -> NDArray[np.float16]:
    model = onnx.load(str(package_artefact()))
    name = block_outputs(model.graph)[-3]
    model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = []
    for start in range(0, len(paths), _CHUNK):
        images = [
            view(open_rgb(path), random.Random(f"{state}/{path.parent.name}/{path.name}"))
            for path in paths[start : start + _CHUNK]
        ]
        batch = normalise([prepare(as_picture(image), spec).pixels for image in images], spec)
        (values,) = session.run([name], {session.get_inputs()[0].name: batch})
        found.append(values.transpose(0, 2, 3, 1).astype(np.float16))
        progress(f"maps {view.__name__} {state}", start + len(images), len(paths))
    return np.concatenate(found)
