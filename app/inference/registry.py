"""Registry of the active models: loaded, checked against their golden sets, in dependency order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import ManifestError
from app.inference.manifest import Kind, ModelManifest, read_manifest
from app.inference.runtime import LoadedHead, LoadedNetwork

MANIFEST: Final = "model.yaml"


@dataclass(frozen=True, slots=True)
class InferenceOptions:
    """Options of inference on this machine, from the settings `inference`.

    `runtime`: `onnx`, `tensorflow` or `auto` (TensorFlow on a GPU, else ONNX Runtime), for networks that exist in both.
    `device`: `auto`, `cpu` or `gpu`. `gpu_index`: the GPU of this worker. `threads`: bound of one inference (0: the
    number of cores). `golden_check`: off only in tools that make golden sets.
    """

    runtime: str = "auto"
    device: str = "auto"
    gpu_index: int = 0
    mixed_precision: bool = False
    threads: int = 0
    disabled: tuple[str, ...] = ()
    golden_check: bool = True


def find_manifests(models_dir: Path) -> tuple[ModelManifest, ...]:
    """Return every `<name>/<version>/model.yaml` in the folder, ordered by name and version. Raises ManifestError."""
    if not models_dir.is_dir():
        raise ManifestError(f"{models_dir}: the models folder does not exist")
    manifests = [read_manifest(path) for path in models_dir.glob(f"*/*/{MANIFEST}")]
    return tuple(sorted(manifests, key=lambda manifest: (manifest.name, version_key(manifest.version))))


def folders_without_manifest(models_dir: Path) -> tuple[Path, ...]:
    """Return folders among the models without a manifest: partly copied, or one level too high or too deep."""
    folders = []
    for name in sorted(_folders(models_dir)):
        versions = sorted(_folders(name))
        if not versions or (name / MANIFEST).exists():
            folders.append(name)
        else:
            folders.extend(version for version in versions if not (version / MANIFEST).exists())
    return tuple(folders)


def _folders(parent: Path) -> list[Path]:
    return [path for path in parent.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))]


def version_key(version: str) -> tuple[int, ...]:
    """Return a sort key that orders versions as numbers: 1.10 after 1.9."""
    return tuple(int(part) for part in version.split("."))


def choose_active(
    manifests: tuple[ModelManifest, ...], active: Mapping[str, str] | None, disabled: tuple[str, ...] = ()
) -> tuple[ModelManifest, ...]:
    """Return the manifests to run, in dependency order: for each name the version in `active`, else the highest.

    Models that depend on a disabled model are disabled too. Raises ManifestError if an active model has no folder, a
    dependency is absent or circular, or shapes do not match.
    """
    wanted = dict(active or {})
    chosen: dict[str, ModelManifest] = {}
    for manifest in manifests:
        if manifest.name in disabled:
            continue
        if manifest.name not in wanted or wanted[manifest.name] == manifest.version:
            chosen[manifest.name] = manifest
    for name, version in wanted.items():
        if name not in chosen and name not in disabled:
            raise ManifestError(f"the active model {name}@{version} has no folder models/{name}/{version}/")
    return _ordered(_without_orphans(chosen, {m.name for m in manifests if m.name in disabled}))


def _without_orphans(chosen: Mapping[str, ModelManifest], gone: set[str]) -> dict[str, ModelManifest]:
    orphans = {name for name, manifest in chosen.items() if gone.intersection(manifest.depends_on())}
    kept = {name: manifest for name, manifest in chosen.items() if name not in orphans}
    return _without_orphans(kept, orphans) if orphans else kept


def _ordered(chosen: Mapping[str, ModelManifest]) -> tuple[ModelManifest, ...]:
    done: dict[str, ModelManifest] = {}
    waiting = dict(chosen)
    while waiting:
        ready = [m for m in waiting.values() if all(name in done for name in m.depends_on())]
        if not ready:
            names = ", ".join(f"{m.id} (needs {', '.join(m.depends_on())})" for m in waiting.values())
            raise ManifestError(f"models depend on absent models or on each other: {names}")
        for manifest in ready:
            _check_dependency(manifest, done)
            done[manifest.name] = waiting.pop(manifest.name)
    return tuple(done.values())


def _check_dependency(manifest: ModelManifest, done: Mapping[str, ModelManifest]) -> None:
    where = manifest.folder / "model.yaml"
    if manifest.embedding_of:
        backbone = done[manifest.embedding_of]
        if backbone.version != manifest.embedding_version:
            raise ManifestError(
                f"{where}: embedding_of: {manifest.id} was trained on {manifest.embedding_of}@"
                f"{manifest.embedding_version}, but {backbone.id} is active; train the head again, or activate that one"
            )
        if backbone.embedding_dimensions != manifest.embedding_dimensions:
            raise ManifestError(
                f"{where}: embedding_dimensions: {manifest.embedding_dimensions} is not the "
                f"{backbone.embedding_dimensions} of {backbone.id}"
            )
    if manifest.run_if and manifest.run_if.label not in done[manifest.run_if.model].labels:
        raise ManifestError(f"{where}: run_if: {manifest.run_if.model} has no label {manifest.run_if.label!r}")


@dataclass(frozen=True, slots=True, eq=False)
class Registry:
    """Models of this process. Immutable: a new activation loads a new registry.

    `device`: the device of the networks, for the log and the report: "CPU" or the GPU's name.
    """

    models: Mapping[str, LoadedNetwork | LoadedHead]
    manifests: tuple[ModelManifest, ...]
    device: str

    def networks(self) -> tuple[LoadedNetwork, ...]:
        """Return the networks on pixels, which run on every picture."""
        return tuple(self.network(m.name) for m in self.manifests if m.kind is Kind.NETWORK)

    def cascades(self) -> tuple[LoadedNetwork, ...]:
        """Return the networks on pixels that run if their `run_if` holds, in dependency order."""
        return tuple(self.network(m.name) for m in self.manifests if m.kind is Kind.CASCADE)

    def heads_of(self, network: str) -> tuple[LoadedHead, ...]:
        """Return the heads on one network's embedding."""
        return tuple(self.head(m.name) for m in self.manifests if m.embedding_of == network)

    def network(self, name: str) -> LoadedNetwork:
        """Return an active network or cascade by name. Raises KeyError."""
        model: LoadedNetwork = self.models[name]  # type: ignore[assignment]  # the manifest's kind decides the protocol
        return model

    def head(self, name: str) -> LoadedHead:
        """Return an active head by name. Raises KeyError."""
        model: LoadedHead = self.models[name]  # type: ignore[assignment]  # the manifest's kind decides the protocol
        return model

    def manifest(self, name: str) -> ModelManifest:
        """Return the manifest of an active model. Raises KeyError."""
        return self.models[name].manifest

    def versions(self) -> dict[str, tuple[str, str]]:
        """Return version and preprocessing version of every active model by name, in dependency order."""
        return {m.name: (m.version, self.preprocessing_version(m.name)) for m in self.manifests}

    def advice(self) -> dict[tuple[str, str], tuple[float, str]]:
        """Return threshold and reason code of every label that has both, by model and label. See `reason_codes`."""
        return {
            (m.name, label): (threshold, m.reasons[label].code)
            for m in self.manifests
            for label, threshold in m.thresholds.items()
            if label in m.reasons
        }

    def preprocessing_version(self, name: str) -> str:
        """Return the preprocessing version of a score's cache key: a network's own; for a head, its network's."""
        manifest = self.manifest(name)
        return (
            self.preprocessing_version(manifest.embedding_of)
            if manifest.embedding_of
            else manifest.preprocessing_version
        )
