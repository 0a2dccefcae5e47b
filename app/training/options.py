"""Options of every training run, and the folder of its model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from app.inference.loading import load_registry
from app.inference.model_input import Floats
from app.inference.registry import InferenceOptions, choose_active, find_manifests, version_key
from app.inference.runtime import LoadedNetwork
from app.training.pictures import LabelledPictures, View, embeddings_of, labelled_pictures

BACKBONE = "nsfw"
Progress = Callable[[str, int, int], None]
"""Told of every step: what is being done, how much of it is done, how much there is."""


@dataclass(frozen=True, slots=True)
class TrainingOptions:
    """One run. The same options on the same pictures give the same model, up to the order of float additions."""

    pictures_dir: Path
    models_dir: Path
    version: str
    cache_dir: Path
    seed: int
    epochs: int
    threads: int
    progress: Progress


def backbone_id(options: TrainingOptions) -> str:
    """`name@version` of what `load_backbone` loads; the manifest of a head names it."""
    chosen = choose_active(find_manifests(options.models_dir), None, _others(options))
    return next(manifest.id for manifest in chosen)


def load_backbone(options: TrainingOptions) -> LoadedNetwork:
    """The network whose embedding heads look at, in the form that workers on CPUs run."""
    inference = InferenceOptions(runtime="onnx", device="cpu", threads=options.threads, disabled=_others(options))
    return load_registry(options.models_dir, None, inference).network(BACKBONE)


def embedder(options: TrainingOptions) -> Callable[[tuple[Path, ...], View, str], Floats]:
    """Return a function that embeds one view of each picture with a named random state and reports its progress."""
    network = load_backbone(options)

    def embeddings(paths: tuple[Path, ...], view: View, seed: str) -> Floats:
        done = 0

        def count(more: int) -> None:
            nonlocal done
            done += more
            options.progress(f"embedding {view.__name__} {seed}", done, len(paths))

        return embeddings_of(network, paths, view, seed, options.cache_dir, count)

    return embeddings


def _others(options: TrainingOptions) -> tuple[str, ...]:
    return tuple({manifest.name for manifest in find_manifests(options.models_dir)} - {BACKBONE})


def next_version(models_dir: Path, name: str) -> str:
    """The version after the highest that is there."""
    versions = [version_key(m.version)[0] for m in find_manifests(models_dir) if m.name == name]
    return str(max(versions, default=0) + 1)


def split(folder: Path) -> tuple[LabelledPictures, LabelledPictures]:
    """Training and validation pictures: from `train/` and `validation/` where the folder has them, else every tenth."""
    if (folder / "train").is_dir() and (folder / "validation").is_dir():
        return labelled_pictures(folder / "train"), labelled_pictures(folder / "validation")
    everything = labelled_pictures(folder)
    sibling = folder.parent / "validation"
    if folder.name == "train" and sibling.is_dir():
        return everything, labelled_pictures(sibling)
    held = [index % 10 == 0 for index in range(len(everything.paths))]
    return _chosen(everything, [not is_held for is_held in held]), _chosen(everything, held)


def _chosen(pictures: LabelledPictures, keep: list[bool]) -> LabelledPictures:
    kept = [index for index, wanted in enumerate(keep) if wanted]
    return LabelledPictures(
        tuple(pictures.paths[index] for index in kept), tuple(pictures.labels[index] for index in kept)
    )
