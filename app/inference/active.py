"""Selection and loading of the models in the settings, for workers, files, rescoring and benchmarks."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Final

from app.errors import ConfigurationError
from app.inference.loading import load_registry
from app.inference.manifest import ModelManifest
from app.inference.registry import (
    MANIFEST,
    InferenceOptions,
    Registry,
    choose_active,
    find_manifests,
    folders_without_manifest,
)
from app.settings import InferenceSettings

logger = logging.getLogger(__name__)
NO_MODEL: Final = f"a model is a folder <name>/<version>/ with a {MANIFEST}"


def active_manifests(inference: InferenceSettings) -> tuple[ModelManifest, ...]:
    """Return the manifests that a worker with these settings runs. Loads no model. Raises as `load_active` does."""
    manifests = find_manifests(inference.models_dir)
    _check_disabled(inference, manifests)
    return choose_active(manifests, _versions(inference), inference.disabled)


def load_active(inference: InferenceSettings, also: Iterable[str] = ()) -> Registry:
    """Load the models that a worker with these settings runs. Blocks for seconds.

    `also`: additional models from a command line, NAME or NAME@VERSION; their versions override the settings. Logs a
    warning for each folder among the models that is not a model. Raises ConfigurationError for a setting without a
    version or an unknown name, ManifestError for a folder that cannot be loaded.
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
    _check_disabled(inference, find_manifests(inference.models_dir))
    for folder in folders_without_manifest(inference.models_dir):
        # Not an error: a model that is being copied or trained must not prevent the start of the others.
        logger.warning("%s is not a model and is ignored: %s", folder, NO_MODEL)
    registry = load_registry(inference.models_dir, active or None, options)
    known = {manifest.name for manifest in registry.manifests}
    for named in also:
        if named.partition("@")[0] not in known:
            raise ConfigurationError(f"no model {named}; there are {', '.join(sorted(known))}")
    return registry


def _check_disabled(inference: InferenceSettings, manifests: Sequence[ModelManifest]) -> None:
    """Refuse unknown names of disabled models: after a typing error the model would run."""
    known = sorted({manifest.name for manifest in manifests})
    for name in inference.disabled:
        if name not in known:
            raise ConfigurationError(
                f"SIGHTLINE_INFERENCE_DISABLED={','.join(inference.disabled)!r} must be names of models in "
                f"{inference.models_dir}, and {name} is none: there are {', '.join(known) or 'none'}"
            )


def _versions(inference: InferenceSettings) -> dict[str, str]:
    active: dict[str, str] = {}
    for named in inference.active:
        name, _, version = named.partition("@")
        if not version:
            raise ConfigurationError(f"SIGHTLINE_INFERENCE_ACTIVE: {named!r} names no version; write {name}@VERSION")
        active[name] = version
    return active
