"""`./sightline lake erase`: everything that the lake knows of one image or content, gone."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from typing import Annotated

import typer

from app.domain.places import parse_image
from app.errors import ConfigurationError
from app.lake.iceberg.catalog import open_catalog
from app.lake.iceberg.erase import Content, Eraser, Image, Target
from app.lake.upkeep.erase import Erased, erase, look, not_reached
from app.settings import load_settings
from app.verbs.operator import Operator, with_operator
from app.verbs.output import JsonOption, show


def register(lake: typer.Typer) -> None:
    """Add the verb."""
    lake.command("erase")(_erase)


def _erase(
    image: Annotated[str, typer.Option(help="s3://bucket/key; both readings of the key are looked for.")] = "",
    sha256: Annotated[str, typer.Option(help="The digest of a content, as hex.")] = "",
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only count.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Take an image's or a content's rows out of all tables, with the snapshots and files that hold them.

    All older snapshots of the tables go with them. Embeddings of an image go when no other image has the same content.
    What was erased is noted by coordinates alone, so that `lake verify` does not miss it and `lake repair` does not
    bring it back.
    """
    target = _target(image, sha256)
    results = with_operator(lambda world: _run(world, target, yes))
    left = not_reached(load_settings(os.environ))
    plain = {"erased": yes, "tables": [dataclasses.asdict(result) for result in results], "not_reached": left}
    show(as_json, plain, _words(results, left, yes))


def _words(results: list[Erased], left: Sequence[str], erased: bool) -> Iterator[str]:
    for result in results:
        if erased:
            yield f"{result.table}: {result.rows} rows erased, {result.deleted_files} files deleted"
        else:
            yield f"{result.table}: {result.rows} rows in {result.files} files would go"
        if result.held_by:
            yield f"{result.table}: still held by {', '.join(result.held_by)}: drop these, then run it again"
    yield "not reached:"
    yield from (f"  {line}" for line in left)
    if not erased:
        yield "nothing was changed; --yes does it"


def _target(image: str, sha256: str) -> Target:
    if bool(image) == bool(sha256):
        raise ConfigurationError("name one of --image s3://bucket/key and --sha256 HEX")
    if image:
        return Image(*parse_image(image))
    digest = sha256.strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digest):
        raise ConfigurationError(f"--sha256 {sha256!r}: give the 64 hex digits of a digest")
    return Content(frozenset((digest,)))


async def _run(world: Operator, target: Target, yes: bool) -> list[Erased]:
    eraser = Eraser(await asyncio.to_thread(open_catalog, world.settings), world.settings)
    if not yes:
        return await look(eraser, target)
    return await erase(eraser, target, await world.lake_store(), world.clock)
