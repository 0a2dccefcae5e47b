"""`./sightline score PATH|DIR|s3://…`: the engine on files, without a broker."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from app.errors import ConfigurationError
from app.inference.active import load_active
from app.inference.engine import Engine
from app.pipeline.policies import load_policy
from app.scoring.files import S3_SCHEME, FileScore, FileScorer, sources
from app.scoring.report import Report, ReportFacts, model_notes, thumbnail
from app.settings import Settings, load_settings
from app.systems.s3.objects import S3ObjectStore
from app.verbs.output import JsonOption, show

_Targets = Annotated[list[str], typer.Argument(help="Files, folders (with all below) or s3://BUCKET/PREFIX.")]
_Model = Annotated[
    list[str] | None, typer.Option(help="Run only NAME (newest) or NAME@VERSION and what it needs; may repeat.")
]
_Report = Annotated[Path | None, typer.Option(help="Write a page with thumbnails, scores and flags to this file.")]
_Quiet = Annotated[bool, typer.Option("--quiet", help="No progress on standard error.")]
_SHOWN = 1
_PROGRESS_SECONDS = 2.0


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    cli.command("score")(_score)


def _score(
    targets: _Targets,
    report: _Report = None,
    as_json: JsonOption = False,
    model: _Model = None,
    quiet: _Quiet = False,
) -> None:
    """Score files with all models, no broker needed; thumbnails and flags with --report.

    Every file is one result, whatever it is: outcome scored, rejected or gone, with a stable reason (docs/images.md).
    Exit code 0, also when files are bad; 2 for bad usage.
    """
    for target in targets:
        if not target.startswith(S3_SCHEME) and not os.path.lexists(target):
            raise ConfigurationError(f"{target} does not exist")
    if report is not None and not report.resolve().parent.is_dir():
        raise ConfigurationError(f"the folder of {report} does not exist")
    settings = load_settings(os.environ)
    asyncio.run(_run(settings, targets, report, as_json, model or [], quiet))


async def _run(
    settings: Settings, targets: list[str], report: Path | None, as_json: bool, models: list[str], quiet: bool
) -> None:
    with _progress(quiet) as progress:
        progress("loading models", 0)
        registry = await asyncio.to_thread(load_active, settings.inference, models)
        policy = load_policy(settings.policy.path, settings.inference.models_dir)
        store = S3ObjectStore(settings.s3) if any(target.startswith(S3_SCHEME) for target in targets) else None
        engine = Engine(registry, settings.limits, settings.inference, settings.engine)
        wanted = frozenset(name.partition("@")[0] for name in models) or None
        scorer = FileScorer(
            engine, settings, policy=policy, store=store, models=wanted, keep_content=report is not None
        )
        gathered = Report() if report is not None else None
        began = time.monotonic()
        done = 0
        results = scorer.run(sources(targets, store))
        try:
            async for found in results:
                done += 1
                if not _print(found, as_json) and gathered is None:
                    break
                if gathered is not None:
                    picture = None
                    if found.content is not None and gathered.wants_pictures:
                        picture = await thumbnail(engine.decoding, found.content)
                    gathered.add(dataclasses.replace(found, content=None), picture)
                progress("scoring", done)
        finally:
            await results.aclose()
            await engine.close()
            if store is not None:
                await store.close()
        seconds = time.monotonic() - began
        progress("scored", done, last=True)
    if gathered is not None and report is not None:
        facts = ReportFacts(
            title=f"Sightline: {_title(targets)}",
            models=model_notes(registry.manifests),
            device=registry.device,
            policy=f"{policy.name} {policy.version}",
            seconds=seconds,
            made_at=time.strftime("%Y-%m-%d %H:%M", time.localtime()),
        )
        report.write_text(gathered.render(facts), encoding="utf-8")
        if not quiet:
            print(f"report: {report}", file=sys.stderr)


def _print(found: FileScore, as_json: bool) -> bool:
    """Print one result; return whether anybody reads on (`| head` has seen enough at some point)."""
    try:
        show(as_json, plain_score(found), [_line(found)])
        return True
    except BrokenPipeError:
        # What is printed later, and the interpreter's own flush at exit, must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return False


def plain_score(found: FileScore) -> dict[str, Any]:
    """Return the object that --json prints for one file; docs/images.md describes it."""
    return {
        "path": found.name,
        "outcome": found.outcome,
        "reason": found.reason,
        "detail": found.detail,
        "sha256": found.sha256,
        "format": found.format,
        "width": found.width,
        "height": found.height,
        "bytes": found.size_bytes,
        "frames": found.frames,
        "truncated": found.truncated,
        "publishable": found.publishable,
        "scores": {one.model: {label.label: label.value for label in one.labels} for one in found.scores},
        "rendition_of": _rendition_of(found),
        "renditions": [dataclasses.asdict(one) for one in found.renditions],
        "skipped": {one.model: one.skipped for one in found.scores if one.skipped},
        "regions": {
            one.model: [[part.left, part.top, part.right, part.bottom, part.value] for part in one.regions]
            for one in found.scores
            if one.regions
        },
        "reasons": list(found.reasons),
        "action": found.action,
        "flags": [
            {"rule": flag.rule, "action": flag.action, "severity": flag.severity, "explanation": flag.explanation}
            for flag in found.flags
        ],
        "model_versions": {one.model: one.version for one in found.scores},
        "timings_ms": {
            "queued": found.timings.queued_ms,
            "decode": found.timings.decode_ms,
            "infer": found.timings.infer_ms,
        },
    }


def _rendition_of(found: FileScore) -> dict[str, dict[str, int]]:
    """Return by model and label the rendition that gave the value; 0 is left out."""
    labels = {
        one.model: {label.label: label.rendition for label in one.labels if label.rendition} for one in found.scores
    }
    return {model: given_by for model, given_by in labels.items() if given_by}


def _line(found: FileScore) -> str:
    name = found.name.encode("utf-8", "backslashreplace").decode()
    if found.outcome != "scored":
        return f"{name}: {found.outcome} ({found.reason}) {found.detail}".rstrip()
    parts = []
    for one in found.scores:
        best = max(one.labels, key=lambda label: label.value)
        parts.append(f"{one.model} {'-' if one.skipped else best.label} {best.value:.3f}")
    flags = f"  [{found.action}: {', '.join(flag.rule for flag in found.flags)}]" if found.flags else ""
    reasons = f"  {', '.join(found.reasons)}" if found.reasons else ""
    return f"{name}: {' | '.join(parts)}{reasons}{flags}"


def _title(targets: list[str]) -> str:
    more = f" and {len(targets) - _SHOWN} more" if len(targets) > _SHOWN else ""
    return targets[0].encode("utf-8", "backslashreplace").decode() + more


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[..., None]]:
    """Yield a function that shows a step and a count on standard error: in place on a terminal, else now and then."""
    terminal = sys.stderr.isatty()
    began = time.monotonic()
    shown = 0.0

    def show(step: str, done: int, last: bool = False) -> None:
        nonlocal shown
        now = time.monotonic()
        if quiet or (not last and done and now - shown < (0.1 if terminal else _PROGRESS_SECONDS)):
            return
        shown = now
        rate = f" {done / (now - began):.1f}/s" if done and now > began else ""
        text = f"{step}: {done} files{rate}" if done or last else f"{step} …"
        print(
            f"\r\x1b[K{text}" if terminal else text,
            end="\n" if last or not terminal else "",
            file=sys.stderr,
            flush=True,
        )

    yield show
