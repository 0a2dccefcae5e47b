"""TensorFlow: Keras heads, and the backbone's twin for GPUs. The only module of the package that imports tensorflow."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from app.errors import ManifestError
from app.inference.embedding import QuantisedEmbedding, matrix
from app.inference.manifest import ModelManifest, Runtime, artefact_path
from app.inference.model_input import Floats, ImageInput, ModelInput
from app.inference.outputs import find_postprocess, infer_by_shape
from app.inference.runtime import ModelOutput

if TYPE_CHECKING:
    from app.inference.efficientnet import Weights

log = logging.getLogger(__name__)

# Lines that TensorFlow's C++ code prints while it loads, at every log level. They are useless to an operator.
_CHATTER = re.compile(
    rb"WARNING: All log messages before absl::InitializeLog|I0000 .*(oneDNN|cpu_feature_guard)|To enable the following"
)


def load_tensorflow() -> Any:
    """Import TensorFlow (takes seconds at the first call) and return it. Suppresses its start-up messages on stderr."""
    if "tensorflow" not in sys.modules:
        with _chatter_dropped():
            return importlib.import_module("tensorflow")
    return sys.modules["tensorflow"]


@contextlib.contextmanager
def _chatter_dropped() -> Iterator[None]:
    """Redirect stderr at the level of the C library. At the end, forward all lines that are not in _CHATTER."""
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            held.seek(0)
            for line in held:
                if not _CHATTER.match(line):
                    os.write(2, line)


def gpu_present() -> bool:
    """Return whether TensorFlow sees a GPU. Imports TensorFlow, which takes seconds."""
    tf = load_tensorflow()

    return bool(tf.config.list_physical_devices("GPU"))


def claim_gpu(index: int) -> str:
    """Restrict this process to one GPU, whose memory grows as needed. Return the GPU's name.

    Call before any TensorFlow computation. Raises ManifestError if the GPU does not exist.
    """
    tf = load_tensorflow()

    gpus = tf.config.list_physical_devices("GPU")
    if not 0 <= index < len(gpus):
        raise ManifestError(
            f"SIGHTLINE_INFERENCE_GPU_INDEX={index}: TensorFlow sees {len(gpus)} GPU(s) on this machine"
        )
    tf.config.set_visible_devices(gpus[index], "GPU")
    tf.config.experimental.set_memory_growth(gpus[index], True)
    details = tf.config.experimental.get_device_details(gpus[index])
    return str(details.get("device_name", gpus[index].name))


def bound_threads(threads: int) -> None:
    """Limit TensorFlow's thread pools. Has no effect after the first TensorFlow computation."""
    tf = load_tensorflow()

    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads or os.cpu_count() or 1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        log.debug("TensorFlow is already running; its thread pools are not changed")


class KerasHead:
    """A Keras model on embeddings. See LoadedHead for the contract."""

    def __init__(self, manifest: ModelManifest, path: Path) -> None:
        tf = load_tensorflow()

        model = _load_keras(manifest, path)
        wanted = (None, manifest.embedding_dimensions)
        if tuple(model.input_shape) != wanted or tuple(model.output_shape) != (None, len(manifest.labels)):
            raise ManifestError(
                f"{manifest.folder}: {path.name} maps {model.input_shape} to {model.output_shape}, "
                f"the manifest says {wanted} to {(None, len(manifest.labels))}"
            )
        self._manifest = manifest
        signature = [tf.TensorSpec(wanted, tf.float32)]
        self._call: Callable[[Floats], Any] = tf.function(
            lambda rows: model(rows, training=False), input_signature=signature
        )
        # Traced now, so that the first batch does not wait for it.
        self._call(np.zeros((1, manifest.embedding_dimensions), dtype=np.float32))

    @property
    def manifest(self) -> ModelManifest:
        """Manifest of the model."""
        return self._manifest

    @property
    def runtime(self) -> str:
        """Name of the runtime, which selects the tolerance of the golden set."""
        return Runtime.KERAS.value

    def infer(self, embeddings: Sequence[QuantisedEmbedding]) -> ModelOutput:
        """Score embeddings."""
        if not embeddings:
            return ModelOutput(scores=np.zeros((0, len(self._manifest.labels)), dtype=np.float32))
        return ModelOutput(scores=np.asarray(self._call(matrix(embeddings)), dtype=np.float32))


class TensorflowNetwork:
    """A network or cascade on TensorFlow. See LoadedNetwork for the contract."""

    def __init__(self, manifest: ModelManifest, spec: ImageInput, call: Callable[[Floats], Any], runtime: str) -> None:
        self._manifest = manifest
        self._spec = spec
        self._call = call
        self._runtime = runtime
        self._postprocess = find_postprocess(manifest)

    @property
    def manifest(self) -> ModelManifest:
        """Manifest of the model."""
        return self._manifest

    @property
    def runtime(self) -> str:
        """Name of the runtime, which selects the tolerance of the golden set."""
        return self._runtime

    def infer(self, batch: Sequence[ModelInput]) -> ModelOutput:
        """Score prepared pictures."""
        return infer_by_shape(self._manifest, self._spec, self._run, self._postprocess, batch)

    def _run(self, values: Floats) -> dict[str, Floats]:
        outputs = self._call(values)
        if not isinstance(outputs, dict):
            outputs = {"scores": outputs}
        names = self._manifest.outputs or {"scores": "scores"}
        return {role: np.asarray(outputs[name], dtype=np.float32) for role, name in names.items()}


def load_head(manifest: ModelManifest, threads: int) -> KerasHead:
    """Load a Keras head. Raises ManifestError."""
    if manifest.runtime is not Runtime.KERAS:
        raise ManifestError(f"{manifest.folder / 'model.yaml'}: runtime: a head runs on keras, not {manifest.runtime}")
    bound_threads(threads)
    return KerasHead(manifest, artefact_path(manifest))


def load_network(manifest: ModelManifest, *, mixed_precision: bool) -> TensorflowNetwork:
    """Load a Keras model, a SavedModel, or the TensorFlow twin of an ONNX network. Raises ManifestError."""
    tf = load_tensorflow()

    from app.inference.backbone import read_branch

    if manifest.input is None:
        raise ManifestError(f"{manifest.folder / 'model.yaml'}: input: is missing")
    match manifest.runtime:
        case Runtime.ONNX:
            if manifest.twin is None or manifest.branch is None:
                raise ManifestError(
                    f"{manifest.folder / 'model.yaml'}: twin: is missing, so it cannot run on TensorFlow"
                )
            model = build_twin(
                artefact_path(manifest, manifest.twin),
                read_branch(artefact_path(manifest, manifest.branch)),
                mixed_precision=mixed_precision,
            )
            call = tf.function(lambda values: model(values, training=False), reduce_retracing=True)
            return TensorflowNetwork(manifest, manifest.input, call, Runtime.KERAS.value)
        case Runtime.KERAS:
            loaded = _load_keras(manifest, artefact_path(manifest))
            call = tf.function(lambda values: loaded(values, training=False), reduce_retracing=True)
            return TensorflowNetwork(manifest, manifest.input, call, manifest.runtime.value)
        case Runtime.SAVED_MODEL:
            # The digest covers the graph; the golden set checks the variables beside it.
            saved = tf.saved_model.load(str(artefact_path(manifest).parent))
            serve = saved.signatures["serving_default"]
            name = next(iter(serve.structured_input_signature[1]))
            return TensorflowNetwork(
                manifest, manifest.input, lambda values: serve(**{name: tf.constant(values)}), manifest.runtime.value
            )


def _load_keras(manifest: ModelManifest, path: Path) -> Any:
    load_tensorflow()
    import keras

    try:
        # safe_mode refuses lambdas and pickled code in an artefact.
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ManifestError(f"{manifest.folder}: Keras cannot load {path.name}: {error}") from error


def build_twin(path: Path, branch: Weights, *, mixed_precision: bool = False) -> Any:
    """Build the Keras graph of the backbone from its ONNX weights, with branch and embedding; channels last.

    Outputs are float32 even in mixed precision. Raises ManifestError for an unknown ONNX operator.
    """
    load_tensorflow()
    import keras

    from app.inference.backbone import EMBEDDING, INPUT_SIDE_PIXELS, backbone_graph

    graph = backbone_graph(path, branch).graph
    source = keras.Input(shape=(INPUT_SIDE_PIXELS, INPUT_SIDE_PIXELS, 3), dtype="float32")
    policy = "mixed_float16" if mixed_precision else "float32"
    values = keras_values(graph, {graph.input[0].name: source}, policy)
    outputs = {graph.output[0].name: values[graph.output[0].name], EMBEDDING: values[EMBEDDING]}
    return keras.Model(source, outputs)


def keras_values(graph: Any, given: Mapping[str, Any], policy: str) -> dict[str, Any]:
    """Rebuild an ONNX graph as Keras layers on the `given` tensors (by ONNX name). Return all tensors by name.

    Nodes before the given tensors are omitted. A convolution's layer has the node's name, with `-` for `/`. Channels
    last. Raises ManifestError for an unknown operator.
    """
    import keras
    import onnx
    from onnx import numpy_helper

    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    values = dict(given)
    for node in graph.node:
        inputs = [values[name] for name in node.input if name in values]
        if not inputs:
            continue
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        constants = [weights[name] for name in node.input if name in weights]
        layer = _layer(keras.layers, node.op_type, node.name, attributes, inputs, constants, policy)
        values[node.output[0]] = layer
    return values


def _layer(
    layers: Any, op: str, name: str, attributes: dict[str, Any], inputs: list[Any], constants: list[Any], policy: str
) -> Any:
    match op:
        case "Transpose":
            return inputs[0]  # the twin uses channels last
        case "Conv":
            return _convolution(layers, name, attributes, inputs[0], constants, policy)
        case "Relu":
            return layers.ReLU(dtype=policy)(inputs[0])
        case "Clip":
            low, high = (float(bound) for bound in constants)
            if low != 0.0:
                raise ManifestError(f"the TensorFlow twin supports Clip only from 0, not from {low:g}")
            return layers.ReLU(max_value=high, dtype=policy)(inputs[0])
        case "Slice":
            starts, ends, _ = constants
            sides = zip(starts, ends, inputs[0].shape[1:3], strict=True)
            return layers.Cropping2D(tuple((int(a), side - int(b)) for a, b, side in sides), dtype=policy)(inputs[0])
        case "Add" if constants:
            return inputs[0] + constants[0]
        case "Add":
            return layers.Add(dtype=policy)(inputs)
        case "MaxPool":
            # Padding with zeros equals padding with -inf here, because the values are the output of a ReLU.
            padded = _padded(layers, inputs[0], attributes, policy)
            return layers.MaxPooling2D(attributes["kernel_shape"], strides=attributes["strides"], dtype=policy)(padded)
        case "AveragePool" | "GlobalAveragePool":
            return layers.GlobalAveragePooling2D(dtype="float32")(inputs[0])
        case "GlobalMaxPool":
            return layers.GlobalMaxPooling2D(dtype="float32")(inputs[0])
        case "Reshape" | "Flatten":
            return inputs[0]  # pooling has already removed the spatial axes
        case "Sqrt":
            import keras

            return keras.ops.sqrt(inputs[0])
        case "Concat":
            return layers.Concatenate(axis=-1, dtype="float32")(inputs)
        case "MatMul":
            layer = layers.Dense(constants[0].shape[1], use_bias=False, dtype="float32")
            result = layer(inputs[0])
            layer.set_weights([constants[0]])
            return result
        case "Softmax":
            return layers.Softmax(dtype="float32")(inputs[0])
        case _:
            raise ManifestError(f"the TensorFlow twin does not support the ONNX operator {op}")


def _convolution(
    layers: Any, name: str, attributes: dict[str, Any], source: Any, constants: list[Any], policy: str
) -> Any:
    padded = _padded(layers, source, attributes, policy)
    options = {
        "strides": attributes.get("strides", (1, 1)),
        "padding": "valid",
        "dtype": policy,
        "name": name.replace("/", "-"),
    }
    kernel = constants[0]  # output, input per group, height, width
    if attributes.get("group", 1) > 1:
        layer = layers.DepthwiseConv2D(kernel.shape[2:], **options)
        placed = np.transpose(kernel, (2, 3, 0, 1))
    else:
        layer = layers.Conv2D(kernel.shape[0], kernel.shape[2:], **options)
        placed = np.transpose(kernel, (2, 3, 1, 0))
    result = layer(padded)
    layer.set_weights([placed, constants[1]])
    return result


def _padded(layers: Any, value: Any, attributes: dict[str, Any], policy: str) -> Any:
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    if not any((top, left, bottom, right)):
        return value
    return layers.ZeroPadding2D(((top, bottom), (left, right)), dtype=policy)(value)
