"""ONNX Runtime: the fast runtime on CPUs. The only module that imports onnxruntime."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from app.errors import ManifestError
from app.inference.manifest import ModelManifest, artefact_path
from app.inference.model_input import Floats, ImageInput, ModelInput
from app.inference.outputs import find_postprocess, infer_by_shape
from app.inference.runtime import ModelOutput


class OnnxNetwork:
    """A network or cascade in ONNX Runtime. See LoadedNetwork for the contract."""

    def __init__(self, manifest: ModelManifest, spec: ImageInput, path: Path, threads: int) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or os.cpu_count() or 1
        options.inter_op_num_threads = 1
        # Spinning threads would occupy the cores that decoding and the event loop need.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except (RuntimeError, ValueError) as error:
            raise ManifestError(f"{manifest.folder}: ONNX Runtime cannot load {path.name}: {error}") from error
        self._manifest = manifest
        self._spec = spec
        self._input = self._session.get_inputs()[0].name
        known = {output.name for output in self._session.get_outputs()}
        wanted = set(manifest.outputs.values())
        if "scores" not in manifest.outputs or not wanted <= known:
            raise ManifestError(
                f"{manifest.folder / 'model.yaml'}: outputs: names {sorted(wanted)}, the artefact has {sorted(known)}"
            )
        self._postprocess = find_postprocess(manifest)

    @property
    def manifest(self) -> ModelManifest:
        """Manifest of the model."""
        return self._manifest

    @property
    def runtime(self) -> str:
        """Name of the runtime, which selects the tolerance of the golden set."""
        return "onnx"

    def infer(self, batch: Sequence[ModelInput]) -> ModelOutput:
        """Score prepared pictures. Pictures of different shapes run in separate batches."""
        return infer_by_shape(self._manifest, self._spec, self._run, self._postprocess, batch)

    def _run(self, values: Floats) -> dict[str, Floats]:
        names = self._manifest.outputs
        arrays = self._session.run(list(names.values()), {self._input: values})
        return {role: np.asarray(array, dtype=np.float32) for role, array in zip(names, arrays, strict=True)}


def load_onnx(manifest: ModelManifest, threads: int) -> OnnxNetwork:
    """Load a network or cascade. Raises ManifestError."""
    if manifest.input is None:
        raise ManifestError(f"{manifest.folder / 'model.yaml'}: input: is missing")
    return OnnxNetwork(manifest, manifest.input, artefact_path(manifest), threads)
