"""`./sightline train HEAD`: trains a head, or the backbone's branch, and writes its model folder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parents[2]
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

    @cli.command()
    def train(
        head: Annotated[Trainable, typer.Argument(help="category | quality | embedded_text (its gate) | branch")],
        data: Annotated[Path, typer.Option(help="folder per class, or a folder with train/ and validation/ of such")],
        models: Annotated[Path, typer.Option(help="models folder: has the backbone, gets the new model")] = ROOT
        / "models",
        version: Annotated[str, typer.Option(help="version to write; default: the next one")] = "",
        seed: Annotated[int, typer.Option(help="same seed and pictures, same model")] = 1,
        epochs: Annotated[
            int, typer.Option(help="0: at most 30, heads stop early when validation stops improving; the branch 12")
        ] = 0,
        threads: Annotated[int, typer.Option(help="threads of inference and training")] = 2,
        cache: Annotated[Path, typer.Option(help="folder that keeps extracted features between runs")] = FEATURES_DIR,
    ) -> None:
        """Train a head on photographs and write a complete model folder: artefact, manifest, golden set, card, report.

        quality and embedded_text make their own damage and text; they need photographs only, the class does not matter.
        branch tunes the backbone's branch and writes the backbone nsfw anew (branch.npz and the int8 ONNX). It takes
        tens of minutes and 100 KB of memory a picture and view; every head is to be trained again after it.
        """
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        from app.inference.tensorflow import bound_threads
        from app.training.options import TrainingOptions, next_version

        bound_threads(threads)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns) as bar:
            task = bar.add_task("reading pictures", total=None)

            def progress(step: str, done: int, total: int) -> None:
                bar.update(task, description=step, completed=done, total=total)

            options = TrainingOptions(
                pictures_dir=data,
                models_dir=models,
                version=version or next_version(models, "nsfw" if head is Trainable.BRANCH else head.value),
                cache_dir=cache,
                seed=seed,
                epochs=epochs or _EPOCHS[head],
                threads=threads,
                progress=progress,
            )
            folder = _train(head, options)
        typer.echo(f"wrote {folder}")
        typer.echo((folder / "README.md").read_text(encoding="utf-8").split("## Measured")[1].strip())

    def _train(head: Trainable, options: object) -> Path:
        from app.training import category, nsfw, quality, text
        from app.training.options import TrainingOptions

        assert isinstance(options, TrainingOptions)
        match head:
            case Trainable.CATEGORY:
                return category.train(options)
            case Trainable.QUALITY:
                return quality.train(options)
            case Trainable.EMBEDDED_TEXT:
                return text.train(options)
            case Trainable.BRANCH:
                return nsfw.train(options)
