"""`./sightline dead-letters ls|show|redrive`."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Iterator
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.table import Table

from agents import PIPELINE
from app.dead_letters.dead_letters import TRANSACTIONAL_ID, FoundLetter, LetterFilter, Redrive, Redriver, find_letters
from app.errors import ConfigurationError, Poison
from app.exit_codes import ExitCode
from app.systems.clock import SystemClock
from app.systems.registry.avro import Codec
from app.verbs.operator import Operator, with_operator
from app.verbs.output import JsonOption, show, show_each, table_text
from app.verbs.times import moment_ms

_Agent = Annotated[str, typer.Option(help=f"Only letters of this agent ({', '.join(PIPELINE)}) or of the bridge.")]
_Kind = Annotated[
    str,
    typer.Option(
        help="Only this kind: poison (cannot be read), used_up (all attempts failed), crashed_worker (in hand at three "
        "crashes), parked (by hand) or output_too_large."
    ),
]
_Reason = Annotated[str, typer.Option(help="Only this reason code.")]
_Bucket = Annotated[str, typer.Option(help="Only letters of this bucket.")]
_Since = Annotated[str, typer.Option(help="Only letters since this time (2026-11-23T09:15, UTC) or since 2h ago.")]
_Limit = Annotated[int, typer.Option(min=1, help="At most so many letters.")]


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    group = typer.Typer(no_args_is_help=True, help="Records that could not be handled: list, show, send round again.")
    group.command("ls")(_ls)
    group.command("show")(_show)
    group.command("redrive")(_redrive)
    cli.add_typer(group, name="dead-letters")


def _ls(
    agent: _Agent = "",
    kind: _Kind = "",
    reason: _Reason = "",
    bucket: _Bucket = "",
    since: _Since = "",
    limit: _Limit = 100,
    every: Annotated[bool, typer.Option("--all", help="Also letters that were redriven.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List dead letters that are open: not redriven yet."""
    wanted = _filter(agent, kind, reason, bucket, since, open_only=not every)
    found, more = with_operator(lambda world: _find(world, wanted, limit))
    show_each(as_json, (one.summary() for one in found), _listing(found, more))


def _listing(found: list[FoundLetter], more: bool) -> Iterator[str]:
    table = Table("letter", "agent", "reason", "attempts", "object", "source", "at (UTC)", "state")
    for one in found:
        letter = one.letter
        place = f"{letter.bucket or ''}/{letter.object_key or ''}".strip("/")
        source = f"{letter.source.topic}/{letter.source.partition}/{letter.source.offset}"
        source += f" part {letter.part}" if letter.part >= 0 else ""
        state = "open" if one.open else f"redriven {one.redriven_times}×"
        table.add_row(
            letter.letter_id,
            letter.agent,
            letter.reason,
            str(letter.attempts),
            place,
            source,
            _utc(letter.dead_at_ms),
            state,
        )
    yield table_text(table)
    yield f"{len(found)} dead letters" + (" and more: raise --limit" if more else "")


def _show(
    letter_id: Annotated[str, typer.Argument(help="The letter's id, or its beginning.")],
    as_json: JsonOption = False,
) -> None:
    """Show one letter whole: where it came from, why, and its original bytes. Exit code 1 when there is none."""
    found, more = with_operator(lambda world: _find(world, LetterFilter(letter_id=letter_id, open_only=False), 1))
    if not found or more:
        typer.echo(f"{'several letters begin' if more else 'no letter begins'} with {letter_id!r}", err=True)
        raise typer.Exit(ExitCode.FINDING)
    shown = found[0].summary() | {"source_key": _text(found[0].letter.key), "value": _value(found[0])}
    words = (f"{name}: {value if isinstance(value, str) else json.dumps(value)}" for name, value in shown.items())
    show(as_json, shown, words)


def _redrive(
    letter_ids: Annotated[list[str] | None, typer.Argument(help="Ids of letters, or their beginnings.")] = None,
    agent: _Agent = "",
    kind: _Kind = "",
    reason: _Reason = "",
    bucket: _Bucket = "",
    since: _Since = "",
    limit: _Limit = 1000,
    every: Annotated[bool, typer.Option("--all", help="All that the filters admit, without naming letters.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Also letters that were redriven before.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Send letters round again: their original bytes go to the topic that they came from, and they count as closed.

    A task of score goes with one attempt more, so that it takes its upload over. Record and mark are one transaction.
    Name letters, or give filters, or --all. Exit code 1 when a letter was refused.
    """
    if not letter_ids and not (every or agent or kind or reason or bucket or since):
        raise ConfigurationError("redrive what? name letters, give a filter such as --reason, or --all")
    wanted = (
        [LetterFilter(letter_id=name, open_only=False) for name in letter_ids]
        if letter_ids
        else [_filter(agent, kind, reason, bucket, since, open_only=not again)]
    )
    done = with_operator(lambda world: _run_redrive(world, wanted, limit, again=again, dry_run=dry_run))
    refused = [one for one in done if one.refused]
    for one in () if as_json else refused:
        typer.echo(f"{one.letter_id}: refused: {one.refused}", err=True)
    sent = len(done) - len(refused)
    show_each(
        as_json,
        ({"letter_id": one.letter_id, "topic": one.topic or None, "refused": one.refused or None} for one in done),
        (f"{sent} {'would be redriven' if dry_run else 'redriven'}, {len(refused)} refused",),
    )
    raise typer.Exit(ExitCode.of_check(not refused))


async def _run_redrive(
    world: Operator, wanted: list[LetterFilter], limit: int, *, again: bool, dry_run: bool
) -> list[Redrive]:
    letters = []
    for one in wanted:
        found, more = await _find(world, one, 1 if one.letter_id else limit)
        if one.letter_id and (more or not found):
            raise ConfigurationError(
                f"{'several letters begin' if more else 'no letter begins'} with {one.letter_id!r}"
            )
        letters += found
    if dry_run:
        refused = "was redriven before; --again sends it once more"
        return [Redrive(found.letter.letter_id, "", "" if found.open or again else refused) for found in letters]
    async with world.transactions(TRANSACTIONAL_ID) as producer:
        redriver = Redriver(producer, world.log, world.codec, world.clock, world.name)
        return await redriver.redrive([found.letter for found in letters], again=again)


async def _find(world: Operator, wanted: LetterFilter, limit: int) -> tuple[list[FoundLetter], bool]:
    """Return at most `limit` letters and whether there are more."""
    found: list[FoundLetter] = []
    async with aclosing(find_letters(world.log, world.codec, wanted)) as letters:
        async for one in letters:
            if len(found) == limit:
                return found, True
            found.append(one)
    return found, False


def _filter(agent: str, kind: str, reason: str, bucket: str, since: str, *, open_only: bool) -> LetterFilter:
    return LetterFilter(
        agent=agent or None,
        kind=kind or None,
        reason=reason or None,
        bucket=bucket or None,
        since_ms=moment_ms(since, "--since", SystemClock().now_ms()) if since else None,
        open_only=open_only,
    )


def _value(found: FoundLetter) -> Any:
    """Return the original bytes for people: one of our records as its fields, text as text, else base64."""
    value = found.letter.value
    try:
        return {"record": type(record := Codec().decode(value)).__name__, **dataclasses.asdict(record)}
    except Poison:
        return _text(value)


def _text(value: bytes | None) -> Any:
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _utc(unix_ms: int) -> str:
    return datetime.fromtimestamp(unix_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
