"""`./sightline models ls|verify|evaluate`: what is there, does it still answer as it did, what is it worth."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.errors import ManifestError
from app.exit_codes import ExitCode
from app.inference.active import NO_MODEL, load_active
from app.inference.registry import find_manifests, folders_without_manifest
from app.settings import InferenceSettings, load_settings
from app.training.evaluation import evaluate as measure
from app.training.evaluation import evaluate_lines
from app.training.pictures import labelled_pictures
from app.verbs.output import JsonOption, show

ModelsDir = Annotated[Path | None, typer.Option(help="models folder; SIGHTLINE_INFERENCE_MODELS_DIR when left out")]
Runtime = Annotated[
    str | None, typer.Option(help="auto | onnx | tensorflow; SIGHTLINE_INFERENCE_RUNTIME when left out")
]
Threads = Annotated[
    int | None,
    typer.Option(
        min=0, help="threads of one inference; 0: the number of cores; SIGHTLINE_INFERENCE_THREADS when left out"
    ),
]


def _inference(models_dir: Path | None, threads: int | None = None, runtime: str | None = None) -> InferenceSettings:
    """Return what the settings say, with what the command line says instead."""
    found = load_settings(os.environ).inference
    return replace(
        found,
        models_dir=models_dir or found.models_dir,
        threads=found.threads if threads is None else threads,
        runtime=runtime or found.runtime,
    )


def register(cli: typer.Typer) -> None:
    """Add the verbs."""
    models = typer.Typer(help="Models: list, verify against their golden sets, evaluate on photographs.")
    cli.add_typer(models, name="models")
    models.command("ls")(_ls)
    models.command("verify")(_verify)
    models.command("evaluate")(_evaluate)


def _ls(models_dir: ModelsDir = None, as_json: JsonOption = False) -> None:
    """List every model version with kind, runtime, labels and measured quality."""
    folder = _inference(models_dir).models_dir
    rows = [
        {
            "model": manifest.id,
            "kind": manifest.kind.value,
            "runtime": manifest.runtime.value,
            "labels": list(manifest.labels),
            "needs": list(manifest.depends_on()),
            "licence": manifest.licence,
            "quality": dict(manifest.quality),
        }
        for manifest in find_manifests(folder)
    ]
    for left_out in folders_without_manifest(folder):
        typer.echo(f"{left_out} is no model and is left out: {NO_MODEL}", err=True)
    show(as_json, rows, map(_line, rows))


def _line(row: dict[str, Any]) -> str:
    needs = f" after {', '.join(row['needs'])}" if row["needs"] else ""
    return f"{row['model']:20} {row['kind']:8} {row['runtime']:6} {', '.join(row['labels'])}{needs}"


def _verify(
    models_dir: ModelsDir = None,
    runtime: Runtime = None,
    threads: Threads = None,
    as_json: JsonOption = False,
) -> None:
    """Load the models that a worker runs, check digests and golden sets. Exit code 1 where one fails."""
    try:
        registry = load_active(_inference(models_dir, threads, runtime))
    except ManifestError as error:
        show(as_json, {"ok": False, "error": str(error)}, [f"failed: {error}"])
        raise typer.Exit(ExitCode.FINDING) from error
    names = [manifest.id for manifest in registry.manifests]
    words = f"{len(names)} models answer as their golden sets say, on {registry.device}: {', '.join(names)}"
    show(as_json, {"ok": True, "models": names, "device": registry.device}, [words])


def _evaluate(
    data: Annotated[Path, typer.Option(help="folder per class of photographs that no model has seen")],
    models_dir: ModelsDir = None,
    threads: Threads = None,
    scores: Annotated[
        Path | None, typer.Option(help="JSON lines of `score DIR --json`: only category and nsfw, nothing is run")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure the models: category by class, quality on made damage, text on made overlays, nsfw false alarms.

    Accuracies and rates are shares from 0 to 1; `core_ms` is CPU milliseconds a picture. Takes about 0.3 s a
    picture.
    """
    if scores is not None:
        result = evaluate_lines(scores.read_text(encoding="utf-8").splitlines())
        show(as_json, result, _words(result))
        return

    pictures = labelled_pictures(data)
    registry = load_active(_inference(models_dir, threads))
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("loading models", total=None)

        def progress(step: str, done: int, total: int) -> None:
            bar.update(task, description=step, completed=done, total=total)

        result = measure(registry, pictures, progress)
    show(as_json, result, _words(result))


def _words(result: dict[str, Any]) -> Iterator[str]:
    for name, value in result.items():
        if not isinstance(value, dict):
            yield f"{name}: {value}"
            continue
        yield f"\n{name}"
        for key, figure in value.items():
            if isinstance(figure, dict):
                yield from (
                    f"  {inner:14} {share['accuracy']:.4f} of {share['pictures']}" for inner, share in figure.items()
                )
            else:
                yield f"  {key}: {figure:.4f}" if isinstance(figure, float) else f"  {key}: {figure}"
