"""`./sightline lake erase`: everything that the lake knows of one image or content, gone."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
from typing import Annotated

import typer

from app.domain.jobs import parse_image
from app.errors import ConfigurationError
from app.lake.iceberg.catalog import open_catalog
from app.lake.iceberg.erase import Content, Eraser, Image, Target
from app.lake.upkeep.erase import Erased, erase, look, not_reached
from app.lake.verbs.options import JsonOption
from app.settings import Settings, load_settings
from app.systems.clock import SystemClock
from app.systems.s3.files import LakeStore


def register(lake: typer.Typer) -> None:
    """Add the verb."""
    lake.command("erase")(_erase)


def _erase(
    image: Annotated[str, typer.Option(help="s3://bucket/key; both readings of the key are looked for.")] = "",
    sha256: Annotated[str, typer.Option(help="The digest of a content, as hex.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only count.")] = False,
    json_output: JsonOption = False,
) -> None:
    """Take an image's or a content's rows out of all tables, with the snapshots and files that hold them.

    All older snapshots of the tables go with them. Embeddings of an image go when no other image has the same content.
    What was erased is noted by coordinates alone, so that `lake verify` does not miss it and `lake repair` does not
    bring it back.
    """
    settings = load_settings(os.environ)
    found = asyncio.run(_run(settings, _target(image, sha256), yes))
    left = not_reached(settings)
    if json_output:
        typer.echo(
            json.dumps({"erased": yes, "tables": [dataclasses.asdict(each) for each in found], "not_reached": left})
        )
        return
    for each in found:
        if yes:
            typer.echo(f"{each.table}: {each.rows} rows erased, {each.deleted_files} files deleted")
        else:
            typer.echo(f"{each.table}: {each.rows} rows in {each.files} files would go")
        if each.held_by:
            typer.echo(f"{each.table}: still held by {', '.join(each.held_by)}: drop these, then run it again")
    typer.echo("not reached:")
    for line in left:
        typer.echo(f"  {line}")
    if not yes:
        typer.echo("nothing was changed; --yes does it")


def _target(image: str, sha256: str) -> Target:
    if bool(image) == bool(sha256):
        raise ConfigurationError("name one of --image s3://bucket/key and --sha256 HEX")
    if image:
        return Image(*parse_image(image))
    digest = sha256.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ConfigurationError(f"--sha256 {sha256!r}: give the 64 hex digits of a digest")
    return Content(frozenset((digest,)))


async def _run(settings: Settings, target: Target, yes: bool) -> list[Erased]:
    eraser = Eraser(await asyncio.to_thread(open_catalog, settings), settings)
    if not yes:
        return await look(eraser, target)
    async with LakeStore(settings.s3) as store:
        return await erase(eraser, target, store, SystemClock())
