"""Exit codes stand in one table, and the page for operators lists it."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from app.exit_codes import ExitCode
from app.settings import ROOT
from app.verbs.supervise import worth_restarting

# Ends before its command begins, in an interpreter that cannot import the project.
_WITHOUT_THE_PROJECT = {"app/stack/guard.py"}


def literal_exits(source: str) -> Iterator[int]:
    """Yield the lines that end a process with a code written as a number."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(func=ast.Attribute(attr="Exit" | "exit" | "_exit"), args=[code, *_]):
                branches = [code.body, code.orelse] if isinstance(code, ast.IfExp) else [code]
                if any(isinstance(branch, ast.Constant) for branch in branches):
                    yield node.lineno


def test_the_page_lists_every_exit_code_and_whether_the_supervisor_restarts() -> None:
    text = (ROOT / "docs" / "semantics.md").read_text(encoding="utf-8")
    section = text.split("## Exit codes\n")[1].split("\n## ")[0]
    rows = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")][1:]
    assert [(int(code), name.strip("`"), restart) for code, name, _, restart in rows] == [
        (code.value, code.name, "yes" if worth_restarting(code) else "no") for code in ExitCode
    ]


def test_no_file_writes_an_exit_code_as_a_number() -> None:
    wrong = [
        f"{path}:{line}"
        for path in sorted((ROOT / "app").rglob("*.py"))
        if path.relative_to(ROOT).as_posix() not in _WITHOUT_THE_PROJECT
        for line in literal_exits(path.read_text(encoding="utf-8"))
    ]
    assert wrong == []


def test_a_planted_number_is_seen() -> None:
    assert list(literal_exits("sys.exit(ExitCode.OK)\nraise typer.Exit(0 if well else 1)\nos._exit(70)")) == [2, 3]
