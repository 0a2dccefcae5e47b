"""The models that the settings ask for: one way for workers, files, rescoring and benchmarks."""

from __future__ import annotations

from collections.abc import Iterable

from app.errors import ConfigurationError
from app.inference.manifest import ModelManifest
from app.inference.registry import InferenceOptions, Registry, choose_active, find_manifests
from app.settings import InferenceSettings


def active_manifests(inference: InferenceSettings) -> tuple[ModelManifest, ...]:
    """Return what a worker with these settings runs, without loading it. Raises as `load_active` does."""
    return choose_active(find_manifests(inference.models_dir), _versions(inference), inference.disabled)


def load_active(inference: InferenceSettings, also: Iterable[str] = ()) -> Registry:
    """Return the models as a worker with these settings runs them; blocks for seconds.

    `also` names models as a command line gives them, NAME or NAME@VERSION; their versions go before the settings'.
    Raises ConfigurationError for a setting without a version or a name that no folder has, ManifestError for a folder
    that cannot be loaded.
    """
    also = tuple(also)
    active = _versions(inference) | dict(named.split("@", 1) for named in also if "@" in named)
    options = InferenceOptions(
        runtime=inference.runtime,
        device=inference.device,
        gpu_index=inference.gpu_index,
        mixed_precision=inference.mixed_precision,
        threads=inference.threads,
        disabled=inference.disabled,
    )
    registry = Registry.load(inference.models_dir, active or None, options)
    known = {manifest.name for manifest in registry.manifests}
    for named in also:
        if named.partition("@")[0] not in known:
            raise ConfigurationError(f"no model {named}; there are {', '.join(sorted(known))}")
    return registry


def _versions(inference: InferenceSettings) -> dict[str, str]:
    active: dict[str, str] = {}
    for named in inference.active:
        name, _, version = named.partition("@")
        if not version:
            raise ConfigurationError(f"SIGHTLINE_INFERENCE_ACTIVE: {named!r} names no version; write {name}@VERSION")
        active[name] = version
    return active
