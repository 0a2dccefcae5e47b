"""Loading of models: selects each runtime and refuses a model whose outputs differ from its golden set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from app.inference.golden import check_head, check_network
from app.inference.manifest import Kind, ModelManifest, Runtime
from app.inference.registry import InferenceOptions, Registry, choose_active, find_manifests
from app.inference.runtime import LoadedHead, LoadedNetwork


def load_registry(models_dir: Path, active: Mapping[str, str] | None, options: InferenceOptions) -> Registry:
    """Load and check all active models. Blocks for seconds. Raises ManifestError with the folder to repair."""
    manifests = choose_active(find_manifests(models_dir), active, options.disabled)
    device = choose_device(options)
    models: dict[str, LoadedNetwork | LoadedHead] = {}
    for manifest in manifests:
        models[manifest.name] = load_model(manifest, options, device)
    registry = Registry(models=models, manifests=manifests, device=device)
    if options.golden_check:
        for network in (*registry.networks(), *registry.cascades()):
            check_network(network)
        for name in [manifest.name for manifest in manifests if manifest.kind is Kind.HEAD]:
            check_head(registry.head(name))
    return registry


def choose_device(options: InferenceOptions) -> str:
    """Return the device for networks: the name of a GPU if the options allow it and TensorFlow sees one, else "CPU".

    Imports TensorFlow only if a GPU is possible. Raises ManifestError if a GPU is required but absent.
    """
    if options.device == "cpu" or (options.device == "auto" and options.runtime == "onnx"):
        return "CPU"
    from app.inference.tensorflow import claim_gpu, gpu_present

    if options.device == "auto" and not gpu_present():
        return "CPU"
    return claim_gpu(options.gpu_index)


def load_model(manifest: ModelManifest, options: InferenceOptions, device: str) -> LoadedNetwork | LoadedHead:
    """Load one model without its golden check. Raises ManifestError."""
    if manifest.kind is Kind.HEAD:
        from app.inference.tensorflow import load_head

        return load_head(manifest, options.threads)
    if wants_tensorflow(manifest, options, device):
        from app.inference.tensorflow import load_network

        return load_network(manifest, mixed_precision=options.mixed_precision and device != "CPU")
    from app.inference.onnx import load_onnx

    return load_onnx(manifest, options.threads)


def wants_tensorflow(manifest: ModelManifest, options: InferenceOptions, device: str) -> bool:
    """Return whether a network runs on TensorFlow: by its artefact, or by its twin if the options choose it."""
    if manifest.runtime is not Runtime.ONNX:
        return True
    if not manifest.twin:
        return False
    return options.runtime == "tensorflow" or (options.runtime == "auto" and device != "CPU")
