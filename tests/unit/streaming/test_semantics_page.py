"""The failure table of docs/semantics.md names tests; they must exist."""

from __future__ import annotations

import ast
import re

import pytest

from app.settings import ROOT

PAGE = (ROOT / "docs" / "semantics.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and "tests/" in line]
CITED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)))
FAULT_TESTS = sorted(
    (str(path.relative_to(ROOT)), node.name)
    for pattern in ("test_streaming*.py", "test_pipeline*.py")
    for path in (ROOT / "tests" / "fault").glob(pattern)
    for node in ast.walk(ast.parse(path.read_text()))
    if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef) and node.name.startswith("test_")
)


def test_the_table_is_there() -> None:
    assert len(ROWS) >= 20
    assert all(row.rstrip(" |").endswith("`") for row in ROWS), "every row ends with the tests that prove it"


@pytest.mark.parametrize(("path", "name"), CITED)
def test_a_cited_test_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text())
    defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef)}
    assert name in defined, f"{path} has no {name}"


@pytest.mark.parametrize(("path", "name"), FAULT_TESTS)
def test_every_fault_test_of_workers_and_pipeline_is_cited(path: str, name: str) -> None:
    assert (path, name) in CITED
