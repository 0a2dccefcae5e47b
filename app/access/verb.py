"""`./sightline api keys create|ls|revoke`: who may use the query service."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from app.access.key_records import KeyRequest, create_key, read_keys, revoke_key
from app.domain.api_keys import SCOPES, ApiKey, Scope, scopes_of
from app.errors import ConfigurationError
from app.settings import load_settings
from app.systems.clock import SystemClock
from app.systems.kafka.producer import KafkaProducer
from app.systems.kafka.topic_log import KafkaTopicLog
from app.systems.registry.avro import Codec
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
    asyncio.run(_created(name.strip(), _scopes(scope), days, rate, as_json))


def _scopes(words: list[str]) -> frozenset[Scope]:
    try:
        return scopes_of(words)
    except ValueError as error:
        raise ConfigurationError(f"--scope: {error}") from error


async def _created(name: str, scopes: frozenset[Scope], days: float | None, rate: float | None, as_json: bool) -> None:
    if not name or len(name) > _NAME_LETTERS or not name.isprintable():
        raise ConfigurationError(f"--name must be 1 to {_NAME_LETTERS} printable letters")
    async with _parts() as parts:
        request = KeyRequest(name, scopes, days, rate)
        token, key = await create_key(parts.producer, parts.codec, parts.clock, request, _WRITER)
    # The key alone on standard output, so that a script can take it from there.
    show(as_json, {**_plain(key), "key": token.text()}, [token.text()])
    if not as_json:
        typer.echo(f"{_line(key)}\nKeep it: it is shown this once and cannot be shown again.", err=True)


def _ls(as_json: JsonOption = False) -> None:
    """List all keys, also expired and revoked ones; never their secrets."""
    asyncio.run(_listed(as_json))


async def _listed(as_json: bool) -> None:
    async with _parts() as parts:
        keys = await read_keys(parts.scanner, parts.codec)
    show_each(as_json, map(_plain, keys.values()), map(_line, keys.values()))
    if not keys:
        typer.echo("no API keys; make one with `./sightline api keys create`", err=True)


def _revoke(
    key_id: Annotated[str, typer.Argument(metavar="ID", help="The id that `ls` shows: the middle of the key.")],
    as_json: JsonOption = False,
) -> None:
    """End a key for good, and every console session that it opened. Running services refuse it within two seconds."""
    asyncio.run(_revoked(key_id, as_json))


async def _revoked(key_id: str, as_json: bool) -> None:
    async with _parts() as parts:
        key = await revoke_key(parts.scanner, parts.producer, parts.codec, parts.clock, key_id, _WRITER)
    show(as_json, _plain(key), [_line(key)])


@dataclass(frozen=True, slots=True)
class _Parts:
    producer: KafkaProducer
    scanner: KafkaTopicLog
    codec: Codec
    clock: SystemClock


@asynccontextmanager
async def _parts() -> AsyncIterator[_Parts]:
    settings = load_settings(os.environ)
    producer = KafkaProducer(settings.kafka)
    try:
        yield _Parts(producer, KafkaTopicLog(settings.kafka), Codec(), SystemClock())
    finally:
        await producer.close()


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
