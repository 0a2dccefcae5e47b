"""`./sightline train HEAD`: trains a head, or the backbone's branch, and writes its model folder."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.inference.manifest import read_manifest
from app.inference.tensorflow import bound_threads
from app.settings import load_settings
from app.training.options import TrainingOptions, next_version
from app.verbs.output import JsonOption, show

FEATURES_DIR = Path("/tmp/sightline-features")


class Trainable(StrEnum):
    """What can be trained here."""

    CATEGORY = "category"
    QUALITY = "quality"
    EMBEDDED_TEXT = "embedded_text"
    BRANCH = "branch"


_EPOCHS = {Trainable.CATEGORY: 30, Trainable.QUALITY: 30, Trainable.EMBEDDED_TEXT: 30, Trainable.BRANCH: 12}


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    cli.command("train")(_train)


def _train(
    head: Annotated[Trainable, typer.Argument(help="category | quality | embedded_text (its gate) | branch")],
    data: Annotated[Path, typer.Option(help="folder per class, or a folder with train/ and validation/ of such")],
    models: Annotated[
        Path | None,
        typer.Option(
            help="models folder: has the backbone, gets the new model; SIGHTLINE_INFERENCE_MODELS_DIR when left out"
        ),
    ] = None,
    version: Annotated[str, typer.Option(help="version to write; default: the next one")] = "",
    seed: Annotated[int, typer.Option(help="same seed and pictures, same model")] = 1,
    epochs: Annotated[
        int, typer.Option(help="0: at most 30, heads stop early when validation stops improving; the branch 12")
    ] = 0,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="threads of inference and training; SIGHTLINE_INFERENCE_THREADS when left out, 2 where that is 0",
        ),
    ] = None,
    cache: Annotated[Path, typer.Option(help="folder that keeps extracted features between runs")] = FEATURES_DIR,
    as_json: JsonOption = False,
) -> None:
    """Train a head on photographs and write a complete model folder: artefact, manifest, golden set, card, report.

    quality and embedded_text make their own damage and text; they need photographs only, the class does not matter.
    branch tunes the backbone's branch and writes the backbone nsfw anew (branch.npz and the int8 ONNX). It takes
    an hour and 170 KB of memory a picture and view; every head is to be trained again after it.
    """
    inference = load_settings(os.environ).inference
    threads = threads or inference.threads or 2
    models_dir = models or inference.models_dir
    bound_threads(threads)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("reading pictures", total=None)

        def progress(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total)

        options = TrainingOptions(
            pictures_dir=data,
            models_dir=models_dir,
            version=version or next_version(models_dir, "nsfw" if head is Trainable.BRANCH else head.value),
            cache_dir=cache,
            seed=seed,
            epochs=epochs or _EPOCHS[head],
            threads=threads,
            progress=progress,
        )
        folder = _run(head, options)
    written = read_manifest(folder / "model.yaml")
    measured = (folder / "README.md").read_text(encoding="utf-8").split("## Measured")[1].strip()
    show(
        as_json,
        {"model": written.id, "folder": str(folder), "quality": dict(written.quality)},
        (f"wrote {folder}", measured),
    )


def _run(head: Trainable, options: TrainingOptions) -> Path:
    # Imported here: they load TensorFlow, whose threads are bound first.
    from app.training import category, nsfw, quality, text

    match head:
        case Trainable.CATEGORY:
            return category.train(options)
        case Trainable.QUALITY:
            return quality.train(options)
        case Trainable.EMBEDDED_TEXT:
            return text.train(options)
        case Trainable.BRANCH:
            return nsfw.train(options)
