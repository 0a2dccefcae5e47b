"""`./sightline audit`: does every upload have exactly one outcome?"""

from __future__ import annotations

from typing import Annotated

import typer

from app.domain.filters import UploadFilter
from app.domain.places import parse_place
from app.errors import ConfigurationError
from app.exit_codes import ExitCode
from app.ledger.audit import as_json as plain_ledger
from app.ledger.audit import audit, lines
from app.ledger.ledger import LedgerReader, Scope
from app.ledger.sums import Ledger
from app.systems.clock import SystemClock
from app.verbs.operator import Operator, with_operator
from app.verbs.output import JsonOption, show
from app.verbs.times import moment_ms


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    cli.command("audit")(_audit)


def _audit(
    place: Annotated[
        str, typer.Argument(help="s3://bucket or s3://bucket/prefix; the topics alone when left out.")
    ] = "",
    bucket: Annotated[str, typer.Option(help="The same as s3://BUCKET.")] = "",
    since: Annotated[
        str,
        typer.Option("--from", help="Only uploads notified since this time (2026-11-23T09:15, UTC) or since 2h ago."),
    ] = "",
    wait: Annotated[
        float, typer.Option(min=0, help="Seconds to wait for what is in flight; the exit code is 1 if it stays so.")
    ] = 0.0,
    listing: Annotated[bool, typer.Option("--listing/--no-listing", help="Compare with the bucket's listing.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Count the ledger: uploads = outcomes + open dead letters, none missing and none twice.

    Uploads are read from s3.uploads by the parser that identify uses; with a bucket, its listing is compared too. What
    the agents have still before them counts as in flight. Outcomes of rescoring jobs are counted apart. Takes
    about 150 MB for a million uploads. Exit code 1 on any gap or duplicate, with examples.
    """
    if place and bucket:
        raise ConfigurationError("name the bucket once: s3://BUCKET or --bucket BUCKET")
    prefix = ""
    if place:
        bucket, prefix = parse_place(place)
    since_ms = moment_ms(since, "--from", SystemClock().now_ms()) if since else None
    scope = Scope(bucket or None, prefix, since_ms)
    ledger = with_operator(lambda world: _run(world, scope, wait, listing))
    show(as_json, plain_ledger(ledger), lines(ledger))
    raise typer.Exit(ExitCode.of_check(ledger.balanced and (ledger.settled or wait == 0)))


async def _run(world: Operator, scope: Scope, wait_seconds: float, listing: bool) -> Ledger:
    store = world.store if scope.bucket is not None and listing else None
    uploads = UploadFilter.of(world.settings)
    reader = LedgerReader(world.log, world.groups, world.codec, world.clock, uploads, scope, store)
    return await audit(reader, world.clock, wait_seconds=wait_seconds)
