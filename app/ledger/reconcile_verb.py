"""`./sightline reconcile s3://bucket/prefix`: objects that no notification told of."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from app.domain.filters import UploadFilter
from app.domain.places import parse_place
from app.errors import ConfigurationError
from app.ledger.reconcile import Counts, Place, ReconcileParts, reconcile
from app.ports.topics import AtTime
from app.topics import PREDICTIONS
from app.verbs.operator import Operator, with_operator
from app.verbs.output import JsonOption, show
from app.verbs.times import duration_seconds


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    cli.command("reconcile")(_reconcile)


def _reconcile(
    place: Annotated[str, typer.Argument(help="s3://bucket or s3://bucket/prefix.")],
    older_than: Annotated[
        str, typer.Option(help="Only objects older than this: a notification may take a minute. At least 1m.")
    ] = "10m",
    within: Annotated[
        str, typer.Option(help="Only objects younger than this, because outcomes are kept for 30d at most.")
    ] = "7d",
    yes: Annotated[bool, typer.Option("--yes", help="Enqueue what is missing; without it nothing is changed.")] = False,
    rate: Annotated[str, typer.Option(help="Enqueue at most so many a second, such as 50/s.")] = "",
    as_json: JsonOption = False,
) -> None:
    """List a bucket and find objects without an outcome, a dead letter or a task in flight; with --yes enqueue them.

    They go to the backfill lane. A late notification of the same upload is then a repeat. Costs about 50 MB for a
    million outcomes in the time looked at, whatever the bucket holds. May be ended and started again at any time.
    """
    bucket, prefix = parse_place(place)
    older_seconds = duration_seconds(older_than, "--older-than")
    within_seconds = duration_seconds(within, "--within")
    if older_seconds < 60:
        raise ConfigurationError("--older-than must be at least 1m: younger objects may still be notified")
    if not older_seconds < within_seconds <= 30 * 86_400:
        raise ConfigurationError("--within must lie between --older-than and 30d, the time for which outcomes are kept")
    per_second = _rate(rate)
    where = Place(bucket, prefix, int(older_seconds * 1000), int(within_seconds * 1000))
    counts = with_operator(lambda world: _run(world, where, per_second, enqueue=yes))
    show(as_json, dataclasses.asdict(counts), _words(counts, yes))


def _words(counts: Counts, enqueued: bool) -> Iterator[str]:
    for example in counts.examples:
        yield f"missing: {example}"
    yield (
        f"listed={counts.listed} accounted={counts.accounted} missing={counts.missing} enqueued={counts.enqueued} "
        f"too_young={counts.too_young} too_old={counts.too_old} filtered={counts.filtered}"
    )
    if counts.missing and not enqueued:
        yield "nothing was changed; --yes enqueues what is missing"


def _rate(text: str) -> float | None:
    if not text:
        return None
    try:
        rate = float(text.removesuffix("/s"))
    except ValueError:
        rate = 0.0
    if not 0 < rate < 1e9:
        raise ConfigurationError(f"--rate {text!r}: give a number of tasks a second, such as 50/s")
    return rate


async def _run(world: Operator, place: Place, rate_per_second: float | None, *, enqueue: bool) -> Counts:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    outcomes = await world.log.count(PREDICTIONS, AtTime(world.clock.now_ms() - place.within_ms))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        scanning = bar.add_task("outcomes scanned", total=outcomes)
        listing = bar.add_task("objects listed", total=None)

        def report(counts: Counts, phase: str) -> None:
            if phase == "scanning":
                bar.update(scanning, completed=counts.outcomes_scanned)
            else:
                bar.update(scanning, completed=outcomes)
                words = f"objects listed, {counts.missing} missing, {counts.enqueued} enqueued"
                bar.update(listing, completed=counts.listed, description=words)

        producer = world.producer("sightline.reconcile") if enqueue else None
        uploads = UploadFilter.of(world.settings)
        parts = ReconcileParts(world.log, world.groups, world.codec, world.clock, uploads, world.store, producer)
        return await reconcile(parts, place, rate_per_second=rate_per_second, report=report)
