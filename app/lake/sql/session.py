"""Session for queries: the tables of the catalog, and the views over them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from app.domain.lake import TABLES
from app.inference.active import active_manifests
from app.lake.iceberg.scans import TableScan, table_scans
from app.lake.sql.dialects import DIALECTS
from app.lake.sql.duckdb_session import Duck, reads_s3
from app.lake.sql.schema import table_columns
from app.lake.sql.views import View, lake_views
from app.settings import Settings
from app.systems.s3.credentials import ChainCredentials, keys_of

_WORD: Final = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def views_of(settings: Settings, dialect: str = "duckdb") -> tuple[View, ...]:
    """Return the views for the active models of the settings. Raises ManifestError, ConfigurationError."""
    tables = {table.name: [column.name for column in table_columns(table)] for table in TABLES}
    return lake_views(tables, active_manifests(settings.inference), DIALECTS[dialect])


@contextmanager
def open_lake(
    settings: Settings,
    *,
    snapshot_id: int | None = None,
    at_ms: int | None = None,
    query: str = "",
    note: Callable[[str], None] = lambda _text: None,
) -> Iterator[tuple[Duck, list[TableScan]]]:
    """Open the tables and views. Calls `note` for each table that `query` needs and that has no data.

    Raises ConfigurationError, LakeUnavailable, StoreUnavailable (no keys).
    """
    scans = table_scans(settings, snapshot_id=snapshot_id, at_ms=at_ms)
    readable = [scan for scan in scans if scan.readable]
    with Duck(settings.lake, settings.s3) as duck:
        # Views are first bound to empty tables: binding them to files would read the metadata for each view.
        for scan in scans:
            duck.add_rows(scan.table)
        views = views_of(settings)
        for view in views:
            duck.define(view.statement())
        needed = tables_in(query, views)
        if readable:
            duck.load_extensions()
        if reads_s3(readable):
            duck.use_keys(asyncio.run(keys_of(settings.s3, ChainCredentials())))
        for scan in scans:
            if scan.readable:
                duck.add_table(scan)
            elif scan.table.name in needed:
                note(f"{scan.table.name} is empty: {scan.absent}")
        yield duck, scans


def tables_in(query: str, views: Sequence[View]) -> frozenset[str]:
    """Return the tables that a query may read, directly or through views: those whose names are words in it."""
    words = set(_WORD.findall(query))
    for view in reversed(views):
        if view.name in words:
            words |= set(_WORD.findall(view.query))
    return frozenset(table.name for table in TABLES if table.name in words)
