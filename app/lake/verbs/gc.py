"""`./sightline lake gc`: files that no snapshot refers to, and uploads that were never ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Annotated

import typer

from app.domain.lake import LakeTable
from app.errors import ConfigurationError
from app.lake.iceberg.catalog import open_catalog
from app.lake.iceberg.read import TableReader
from app.lake.upkeep.orphans import Bounds, Rubbish, find_rubbish, remove
from app.lake.upkeep.verify import Limits
from app.lake.verbs.options import TableOption, tables_named
from app.verbs.operator import Operator, with_operator
from app.verbs.output import JsonOption, show

_HOUR_MS = 3_600_000


def register(lake: typer.Typer) -> None:
    """Add the verb."""
    lake.command("gc")(_gc)


def _gc(
    table: TableOption = "",
    older_than: Annotated[
        float | None, typer.Option("--older-than", min=0, help="Hours; SIGHTLINE_LAKE_ORPHAN_HOURS when left out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Delete what lies in a table's folder and belongs to no snapshot of it, and end forgotten multipart uploads.

    What is young stays, and what the sink may yet commit. Refuses a table that cannot be read wholly, and a folder in
    which another table's metadata lie.
    """
    rubbish_of = with_operator(lambda world: _run(world, tables_named(table), older_than, dry_run))
    plain = {
        name: {"files": len(rubbish.files), "bytes": rubbish.size_bytes, "uploads": len(rubbish.uploads)}
        for name, rubbish in rubbish_of.items()
    }
    show(as_json, plain, _words(rubbish_of, dry_run))


def _words(rubbish_of: Mapping[str, Rubbish], dry_run: bool) -> Iterator[str]:
    for name, rubbish in rubbish_of.items():
        yield from (f"  {file.path}" for file in (rubbish.files[:20] if dry_run else ()))
        yield (
            f"{name}: {len(rubbish.files)} files ({rubbish.size_bytes / 1e6:.1f} MB) "
            f"and {len(rubbish.uploads)} half uploads {'would go' if dry_run else 'deleted'}"
        )


async def _run(
    world: Operator, tables: tuple[LakeTable, ...], older_than: float | None, dry_run: bool
) -> dict[str, Rubbish]:
    settings = world.settings
    hours = settings.lake.orphan_hours if older_than is None else older_than
    commit_ms = Limits.of(settings.lake).behind_ms
    if hours * _HOUR_MS < commit_ms:
        raise ConfigurationError(
            f"files younger than {commit_ms / _HOUR_MS:.2f} hours (three commits and a timeout) may belong to a commit "
            "that is under way; give --older-than or SIGHTLINE_LAKE_ORPHAN_HOURS more than that"
        )
    bounds = Bounds(int(hours * _HOUR_MS), commit_ms)
    catalog = await asyncio.to_thread(open_catalog, settings)
    rubbish_of = {}
    store = await world.lake_store()
    for row in tables:
        rubbish = await find_rubbish(TableReader(catalog, settings, row), store, world.clock, bounds)
        if not dry_run:
            await remove(rubbish, store)
        rubbish_of[row.name] = rubbish
    return rubbish_of
