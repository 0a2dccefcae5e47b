"""`./sightline lake repair` and `lake register`: a table that lost rows, a catalog that lost its tables."""

from __future__ import annotations

import asyncio
import dataclasses
from functools import partial
from typing import Annotated

import typer

from app.domain.lake import LakeTable
from app.exit_codes import ExitCode
from app.lake.iceberg.catalog import open_catalog
from app.lake.iceberg.erasures import ERASURES, Erasures
from app.lake.iceberg.read import TableReader
from app.lake.upkeep.compare import Comparer
from app.lake.upkeep.register import register as attach
from app.lake.upkeep.repair import Repaired, repair
from app.lake.upkeep.verify import Limits
from app.lake.verbs.options import TableOption, tables_named
from app.systems.kafka.groups import sink_offsets
from app.verbs.operator import Operator, with_operator
from app.verbs.output import JsonOption, show


def register(lake: typer.Typer) -> None:
    """Add the verbs."""
    lake.command("repair")(_repair)
    lake.command("register")(_register)


def _repair(
    table: TableOption = "",
    force: Annotated[
        bool, typer.Option("--force", help="Every record without a row. Only while the connector does not run.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Bring the rows that `lake verify` calls missing from the topics, and leave one of each that is there twice.

    Only what the sink has committed by its own word counts: the rest may be merely late, and exit code 1 says that some
    of it is later than it should be. Erased rows stay erased. Safe to repeat.
    """
    done = with_operator(lambda world: _run(world, tables_named(table), force))
    words = [
        f"{each.table}: {each.appended} rows brought, {each.removed} doubles taken out, {each.late} late"
        for each in done
    ]
    late = any(each.late for each in done)
    if late:
        words.append(
            "late: the sink has not said that it committed these; wait for it, or stop the connector, wait for "
            "SIGHTLINE_LAKE_COMMIT_TIMEOUT_SECONDS and give --force"
        )
    show(as_json, [dataclasses.asdict(each) for each in done], words)
    raise typer.Exit(ExitCode.of_check(not late))


def _register(
    table: TableOption = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Also where the catalog has a table that was made anew; its files stay.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Attach the tables that lie in the warehouse to a catalog that lost them, by their newest metadata files."""
    done = with_operator(lambda world: _attached(world, table, replace))
    show(as_json, done, (f"{name}: {words or 'no files in the warehouse'}" for name, words in done.items()))


async def _run(world: Operator, tables: tuple[LakeTable, ...], force: bool) -> list[Repaired]:
    settings, log = world.settings, world.log
    catalog = await asyncio.to_thread(open_catalog, settings)
    committed, limits, prefix = partial(sink_offsets, settings.kafka), Limits.of(settings.lake), settings.kafka.prefix
    done = []
    for row in tables:
        reader = TableReader(catalog, settings, row)
        comparer = Comparer(log, committed, reader, Erasures(catalog, settings))
        done.append(await repair(comparer, reader, log, world.codec, world.clock, limits, prefix=prefix, force=force))
    return done


async def _attached(world: Operator, table: str, replace: bool) -> dict[str, str | None]:
    catalog = await asyncio.to_thread(open_catalog, world.settings)
    rows = (*tables_named(table), *(() if table else (ERASURES,)))
    store = await world.lake_store()
    return {row.name: await attach(catalog, world.settings, row, store, replace=replace) for row in rows}
