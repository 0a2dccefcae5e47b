"""The help reads tables of verbs; running a verb imports its module and no other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator

from typer._click import Command, Context
from typer.core import TyperGroup

from app.__main__ import build
from app.settings import ROOT

# Supervisors stay small, benchmarks each need their own libraries, TensorFlow gets its threads before it is loaded.
DEFERRING = {
    "app/api/verb.py",
    "app/bench/verb.py",
    "app/bridge/verb.py",
    "app/compose/worker_verb.py",
    "app/training/verb.py",
}
_IMPORTED = """
import sys
from app.__main__ import build
try:
    build()(sys.argv[1:], prog_name="sightline")
except SystemExit:
    pass
print(*sorted(name for name in sys.modules if "verb" in name.split(".")[-1] or ".verbs." in name), file=sys.stderr)
"""


def verb_modules(*words: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-c", _IMPORTED, *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    return {name for name in done.stderr.split() if name.split(".")[:2] != ["app", "verbs"]}


def rows(group: TyperGroup, path: str = "") -> Iterator[tuple[str, str | None, Command]]:
    """Yield each verb with its line in the table and the command of its module."""
    for name in group.commands:
        stub, command = group.get_command(Context(group), name), group.commands[name]
        yield f"{path}{name}", None if stub is None else stub.help, command
        if isinstance(command, TyperGroup) and name in ("lake", "api"):
            yield from rows(command, f"{path}{name} ")


def test_the_help_imports_no_verb() -> None:
    assert verb_modules("--help") == set()
    assert verb_modules("lake", "--help") == {"app.lake.verbs"}


def test_a_verb_imports_no_other() -> None:
    assert verb_modules("lake", "views", "--help") == {"app.lake.verbs", "app.lake.verbs.views"}
    assert verb_modules("api", "keys", "ls", "--help") == {"app.api.verb", "app.access.verb"}


def test_every_line_of_the_tables_is_the_first_paragraph_of_its_verb() -> None:
    verbs = {name: (line, (command.help or "").split("\n\n")[0]) for name, line, command in rows(build())}
    assert len(verbs) > 30
    assert {name: line for name, (line, _) in verbs.items()} == {
        name: paragraph.replace("\n", " ") for name, (_, paragraph) in verbs.items()
    }


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app", "adit"], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 2
    assert "No such command 'adit'. Did you mean 'audit'?" in done.stderr


def deferred_imports(source: str) -> list[int]:
    """Return the lines of imports inside of functions and conditions."""
    tree = ast.parse(source)
    return [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom) and node.col_offset]


def test_verbs_import_at_the_top_of_their_modules() -> None:
    files = [*(ROOT / "app").rglob("verb.py"), *(ROOT / "app").rglob("*_verb.py"), *(ROOT / "app").rglob("verbs/*.py")]
    assert len(files) > 30
    wrong = {path.relative_to(ROOT).as_posix() for path in files if deferred_imports(path.read_text(encoding="utf-8"))}
    assert wrong == DEFERRING


def test_a_planted_deferred_import_is_seen() -> None:
    assert deferred_imports("import os\ndef verb() -> None:\n    import json\n") == [3]
