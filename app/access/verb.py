"""`./sightline api keys create|ls|revoke`: who may use the query service."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer

from app.access.key_records import KeyRequest, create_key, read_keys, revoke_key
from app.domain.api_keys import SCOPES, ApiKey, Scope, scopes_of
from app.errors import ConfigurationError
from app.verbs.operator import with_operator
from app.verbs.output import JsonOption, show, show_each

_WRITER = "cli"
_NAME_LETTERS = 100


def register(api: typer.Typer) -> None:
    """Add the group, below `api`."""
    keys = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")
    keys.command("create")(_create)
    keys.command("ls")(_ls)
    keys.command("revoke")(_revoke)
    api.add_typer(keys, name="keys")


def _create(
    name: Annotated[str, typer.Option(help="Whose key it is; decisions made with it carry this name.")],
    scope: Annotated[list[str], typer.Option(help=f"What it may: {', '.join(SCOPES)}. Repeat it for several.")],
    days: Annotated[
        float | None, typer.Option(min=0.001, max=36_500, help="It expires after so many days; without: never.")
    ] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.1, max=1_000_000, help="Requests a second, instead of SIGHTLINE_API_RATE_PER_SECOND."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key and print it, once: only its hash is kept. Running services take it within two seconds."""
    scopes = _scopes(scope)
    name = name.strip()
    if not name or len(name) > _NAME_LETTERS or not name.isprintable():
        raise ConfigurationError(f"--name must be 1 to {_NAME_LETTERS} printable letters")
    request = KeyRequest(name, scopes, days, rate)
    token, key = with_operator(lambda world: create_key(world.producer(), world.codec, world.clock, request, _WRITER))
    # The key alone on standard output, so that a script can take it from there.
    show(as_json, {**_plain(key), "key": token.text()}, [token.text()])
    if not as_json:
        typer.echo(f"{_line(key)}\nKeep it: it is shown this once and cannot be shown again.", err=True)


def _scopes(words: list[str]) -> frozenset[Scope]:
    try:
        return scopes_of(words)
    except ValueError as error:
        raise ConfigurationError(f"--scope: {error}") from error


def _ls(as_json: JsonOption = False) -> None:
    """List all keys, also expired and revoked ones; never their secrets."""
    keys = with_operator(lambda world: read_keys(world.log, world.codec))
    show_each(as_json, map(_plain, keys.values()), map(_line, keys.values()))
    if not keys:
        typer.echo("no API keys; make one with `./sightline api keys create`", err=True)


def _revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `ls` shows: the middle of the key.")],
    as_json: JsonOption = False,
) -> None:
    """End a key for good, and every console session that it opened. Running services refuse it within two seconds."""
    key = with_operator(
        lambda world: revoke_key(world.log, world.producer(), world.codec, world.clock, key_id, _WRITER)
    )
    show(as_json, _plain(key), [_line(key)])


def _plain(key: ApiKey) -> dict[str, Any]:
    return {
        "id": key.id,
        "name": key.name,
        "scopes": sorted(key.scopes),
        "state": key.state_at(_now_ms()),
        "created_ms": key.created_ms,
        "expires_ms": key.expires_ms,
        "rate_per_second": key.rate_per_second,
    }


def _line(key: ApiKey) -> str:
    expires = "never expires" if key.expires_ms is None else f"expires {_day(key.expires_ms)}"
    rate = "" if key.rate_per_second is None else f", {key.rate_per_second:g}/s"
    state = key.state_at(_now_ms())
    return (
        f"{key.id}  {state:8}{key.name}: {', '.join(sorted(key.scopes))}; made {_day(key.created_ms)}, {expires}{rate}"
    )


def _day(unix_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%MZ", time.gmtime(unix_ms / 1000))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
