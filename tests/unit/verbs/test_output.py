"""Text and `--json` come from one place, and lines for people are not made for JSON."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.table import Table

from app.settings import ROOT
from app.verbs.output import show, show_each, table_text


def json_options(source: str) -> Iterator[int]:
    """Yield the lines that define an option `--json`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="Option"), args=[*names]) if any(
                isinstance(name, ast.Constant) and name.value == "--json" for name in names
            ):
                yield node.lineno


def test_json_is_one_line_and_lists_one_line_each(capsys: pytest.CaptureFixture[str]) -> None:
    lines = map(str, numbers := iter([1, 2]))
    show(True, {"a": [1]}, lines)
    show_each(True, ({"n": n} for n in (1, 2)), lines)
    assert capsys.readouterr().out == '{"a": [1]}\n{"n": 1}\n{"n": 2}\n'
    assert list(numbers) == [1, 2]


def test_text_is_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show(False, object(), ["a", "b"])
    show_each(False, [object()], ["c"])
    assert capsys.readouterr().out == "a\nb\nc\n"


def test_long_cells_are_wrapped() -> None:
    table = Table("name")
    table.add_row("letter " * 60)
    assert table_text(table).count("letter") == 60


def test_the_option_is_defined_once() -> None:
    places = [
        path.relative_to(ROOT)
        for path in sorted((ROOT / "app").rglob("*.py"))
        for _ in json_options(path.read_text(encoding="utf-8"))
    ]
    assert places == [Path("app/verbs/output.py")]


def test_a_planted_option_is_seen() -> None:
    assert list(json_options('x: Annotated[bool, typer.Option("--json", help="h")] = False')) == [1]
