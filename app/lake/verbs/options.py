"""The option `--table` of the verbs of the lake, and the tables that it selects."""

from __future__ import annotations

from typing import Annotated

import typer

from app.domain.lake import TABLES, LakeTable
from app.errors import ConfigurationError

TableOption = Annotated[str, typer.Option("--table", help="Only this table; all when left out.")]


def tables_named(name: str) -> tuple[LakeTable, ...]:
    """Return the tables that an option means, predictions last. Raises ConfigurationError."""
    chosen = tuple(table for table in TABLES if name in ("", table.name))
    if not chosen:
        raise ConfigurationError(f"--table {name!r}: one of {', '.join(table.name for table in TABLES)}")
    return tuple(sorted(chosen, key=lambda table: table.name == "predictions"))
