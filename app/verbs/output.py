"""What a verb prints: lines for people, or JSON with `--json`."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def show(as_json: bool, value: object, lines: Iterable[str], *, indent: int | None = None) -> None:
    """Print `value` as JSON, or `lines`. `lines` are not read with `as_json`, so a generator costs nothing then."""
    for line in (json.dumps(value, indent=indent),) if as_json else lines:
        typer.echo(line)


def show_each(as_json: bool, values: Iterable[object], lines: Iterable[str]) -> None:
    """Print each of `values` as JSON on a line of its own, or `lines`."""
    for line in map(json.dumps, values) if as_json else lines:
        typer.echo(line)


def table_text(table: Table) -> str:
    """Return `table` as text, at most as wide as the terminal."""
    console = Console()
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")
