"""`./sightline rescore start|status|pause|resume|cancel`: past uploads through the backfill lane."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from app.domain.filters import UploadFilter
from app.domain.jobs import (
    CANCELLED,
    ENQUEUED,
    PAUSED,
    RUNNING,
    JobRequest,
    in_utc,
    parse_model,
    parse_rate,
    parse_time,
)
from app.domain.places import parse_place
from app.errors import ConfigurationError
from app.inference.active import active_manifests
from app.rescoring.begin import begin_job
from app.rescoring.jobs import RescoreParts, ask, find_job, read_jobs
from app.rescoring.progress import Progress, status_of, with_signs
from app.rescoring.rescore import RescoreRunner
from app.settings import Settings, load_settings
from app.verbs.operator import Operator, with_operator
from app.verbs.output import JsonOption, show, show_each

_NoWait = Annotated[bool, typer.Option("--no-wait", help="Return when all tasks are out, without their outcomes.")]
_Rate = Annotated[
    str,
    typer.Option(
        help="Tasks put out at most: 50/s, 3000/m, 100000/h. Without: the rate of the job that goes on, else no limit."
    ),
]
_JobId = Annotated[str, typer.Argument(help="The job's id, or a part of it that no other job has.")]


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    rescore = typer.Typer(no_args_is_help=True, help="Score past uploads again, behind the live ones.")
    rescore.command("start")(_start)
    rescore.command("status")(_status)
    rescore.command("pause")(_pause)
    rescore.command("resume")(_resume)
    rescore.command("cancel")(_cancel)
    cli.add_typer(rescore, name="rescore")


def _start(
    from_time: Annotated[
        str,
        typer.Option("--from", help="Uploads from this time on: 2026-11-23, 2026-11-23T20:15Z (UTC without a zone)."),
    ] = "",
    to_time: Annotated[str, typer.Option("--to", help="Uploads before this time; now when left out.")] = "",
    bucket: Annotated[str, typer.Option(help="Instead of a time: the objects below s3://bucket/prefix.")] = "",
    model: Annotated[list[str] | None, typer.Option(help="NAME@VERSION to score by; all active ones without.")] = None,
    rate: _Rate = "",
    force: Annotated[bool, typer.Option("--force", help="Fetch and compute again what is known already.")] = False,
    no_wait: _NoWait = False,
    as_json: JsonOption = False,
) -> None:
    """Put uploads of the past on the backfill lane as one job, and show how it goes.

    The latest upload of each image is scored once; removed images are left out. Killed, it goes on where it was when
    started again with the same options (another --rate is the same job's new one), or by `rescore resume`; waiting for
    outcomes it waits on. Ctrl-C stops it the same way.
    """
    settings = load_settings(os.environ)
    request = _request(settings, from_time, to_time, bucket, tuple(model or ()), force)
    per_second = parse_rate(rate) if rate else None
    with_operator(lambda world: _begin(world, request, per_second, no_wait, as_json))


def _request(
    settings: Settings, from_time: str, to_time: str, bucket: str, models: tuple[str, ...], force: bool
) -> JobRequest:
    if bool(from_time) == bool(bucket):
        raise ConfigurationError("rescore start needs either --from TIME [--to TIME] or --bucket s3://bucket/prefix")
    if to_time and bucket:
        raise ConfigurationError("--to goes with --from, not with --bucket")
    models = tuple(sorted({parse_model(text) for text in models}))
    _check_models(settings, models)
    if bucket:
        name, prefix = parse_place(bucket)
        return JobRequest(None, None, name, prefix, models, force)
    from_ms, to_ms = parse_time(from_time), parse_time(to_time) if to_time else None
    if to_ms is not None and to_ms <= from_ms:
        raise ConfigurationError(f"--to {to_time} is not after --from {from_time}")
    return JobRequest(from_ms, to_ms, "", "", models, force)


def _check_models(settings: Settings, models: tuple[str, ...]) -> None:
    if not models:
        return
    running = sorted(manifest.id for manifest in active_manifests(settings.inference))
    for model in models:
        # A worker makes a dead letter of each task that asks for a model that it does not run.
        if model not in running:
            raise ConfigurationError(f"--model {model} is not active; active are {', '.join(running) or 'none'}")


async def _begin(world: Operator, request: JobRequest, rate: float | None, no_wait: bool, as_json: bool) -> None:
    parts = _with_bucket(world, _parts(world), request)
    job, new = await begin_job(parts, request, rate or 0.0)
    words = f"{'started' if new else 'goes on'}: {job.id} ({request.in_words()})"
    if job.state == ENQUEUED:
        words += f": all tasks are out; `./sightline rescore cancel {job.id}` first to begin anew"
    typer.echo(words, err=as_json)
    if job.state == PAUSED:
        raise ConfigurationError(f"{job.id} is paused; go on with `./sightline rescore resume {job.id}`")
    await _run(parts, job.id, no_wait, as_json, rate)


def _resume(job_id: _JobId, no_wait: _NoWait = False, as_json: JsonOption = False) -> None:
    """Go on with a job that was paused or whose process ended; another process that still runs it is stopped."""
    with_operator(lambda world: _resumed(world, job_id, no_wait, as_json))


async def _resumed(world: Operator, job_id: str, no_wait: bool, as_json: bool) -> None:
    parts = _parts(world)
    job = await find_job(parts, job_id)
    if job.unfinished:
        await ask(parts, job, RUNNING)
    await _run(_with_bucket(world, parts, job.request), job.id, no_wait, as_json)


async def _run(parts: RescoreParts, job_id: str, no_wait: bool, as_json: bool, rate: float | None = None) -> None:
    with _Display(quiet=as_json) as display:
        runner = RescoreRunner(parts, display.show)
        job = await runner.run(job_id, rate)
        last = None
        if job.state == ENQUEUED and not no_wait:
            last = await runner.wait_for_outcomes(job)
    last = last or await status_of(parts, job)
    show(as_json, _plain(last), [_line(last)])


def _status(
    job_id: Annotated[str, typer.Argument(help="One job, with its outcomes counted; all jobs when left out.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Show jobs: what they cover, how many tasks are out, how many have their outcome, whether somebody runs them."""
    with_operator(lambda world: _show(world, job_id, as_json))


async def _show(world: Operator, job_id: str, as_json: bool) -> None:
    parts = _parts(world)
    if job_id:
        found = [await status_of(parts, await find_job(parts, job_id))]
    else:
        jobs = (await read_jobs(parts.log, parts.codec)).values()
        found = [Progress(job, job.state, -1, -1, 0.0, None) for job in jobs]
    found = await with_signs(parts, found)
    show_each(as_json, map(_plain, found), map(_line, found) if found else ["no jobs"])


def _pause(job_id: _JobId, as_json: JsonOption = False) -> None:
    """Stop putting out tasks after the chunk in hand; tasks that are out are still scored."""
    with_operator(lambda world: _ask(world, job_id, PAUSED, as_json))


def _cancel(job_id: _JobId, as_json: JsonOption = False) -> None:
    """End a job for good after the chunk in hand; tasks that are out are still scored, and no longer waited for."""
    with_operator(lambda world: _ask(world, job_id, CANCELLED, as_json))


async def _ask(world: Operator, job_id: str, wanted: str, as_json: bool) -> None:
    parts = _parts(world)
    job = await find_job(parts, job_id)
    await ask(parts, job, wanted)
    plain = {"job": job.id, "asked_for": wanted, "total": job.total, "enqueued": job.enqueued}
    show(as_json, plain, [f"{job.id}: {wanted}, {job.enqueued} of {job.total} tasks are out"])


def _parts(world: Operator) -> RescoreParts:
    """Return what any job needs."""
    producer, worker = world.producer("sightline-rescore"), f"rescore-{os.getpid()}"
    uploads = UploadFilter.of(world.settings)
    return RescoreParts(
        world.log, world.groups, producer, world.transactions, world.codec, world.clock, worker, uploads
    )


def _with_bucket(world: Operator, parts: RescoreParts, request: JobRequest) -> RescoreParts:
    """Return the parts with store and index if `request` covers a bucket."""
    return parts if request.by_time else replace(parts, store=world.store, index=world.index)


class _Display:
    """A progress bar on a terminal, a line every few seconds otherwise, nothing when quiet."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._task: Any = None
        self._phase = ""

    def __enter__(self) -> _Display:
        if not self._quiet and sys.stderr.isatty():
            self._bar = Bar(TextColumn("{task.description}"), BarColumn(), console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task("planning", total=None)
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, progress: Progress) -> None:
        """Show where the job is."""
        if self._bar is not None:
            waiting = progress.phase in ("waiting", "done")
            done = progress.outcomes + progress.dead_letters if waiting else progress.job.enqueued
            total = progress.job.enqueued if waiting else progress.job.total
            self._bar.update(self._task, description=_line(progress), completed=done, total=total or None)
        elif not self._quiet and progress.phase != self._phase:
            self._phase = progress.phase
            typer.echo(_line(progress), err=True)


def _line(progress: Progress) -> str:
    job = progress.job
    words = f"{job.id} {progress.phase}: {job.enqueued} of {job.total} tasks out"
    if progress.outcomes >= 0:
        words += f", {progress.outcomes} outcomes"
        words += f", {progress.dead_letters} dead letters" if progress.dead_letters else ""
    words += f", {job.skipped} left out (removed since)" if job.skipped else ""
    words += f", {progress.rate_per_second:.1f}/s" if progress.rate_per_second else ""
    words += f", {progress.seconds_left:.0f} s left" if progress.seconds_left else ""
    if progress.no_runner_since_ms is not None:
        words += f", no runner since {in_utc(progress.no_runner_since_ms)} (`./sightline rescore resume {job.id}`)"
    elif progress.last_sign_ms is not None and job.state == RUNNING:
        words += f", runner heard of at {in_utc(progress.last_sign_ms)}"
    return f"{words} ({job.request.in_words()})"


def _plain(progress: Progress) -> dict[str, Any]:
    job = progress.job
    counted = progress.outcomes >= 0
    return {
        "job": job.id,
        "state": progress.phase,
        "request": job.request.in_words(),
        "total": job.total,
        "enqueued": job.enqueued,
        "skipped": job.skipped,
        "outcomes": progress.outcomes if counted else None,
        "dead_letters": progress.dead_letters if counted else None,
        "rate_per_second": round(progress.rate_per_second, 2),
        "seconds_left": None if progress.seconds_left is None else round(progress.seconds_left, 1),
        "created_at_ms": job.created_at_ms,
        "last_sign_ms": progress.last_sign_ms,
        "no_runner_since_ms": progress.no_runner_since_ms,
    }
