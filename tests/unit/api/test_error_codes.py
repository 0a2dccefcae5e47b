"""docs/api.md tells every code that a problem document can have, with its status, and no other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from app.api import problems
from app.api.routes import decisions as routes_decisions
from app.domain.images import RejectReason
from app.serving.references import NO_SUCH_OBJECT, NOT_SERVED
from app.settings import ROOT

Told = set[tuple[str, str]]
_ROW = re.compile(r"^\| `([a-z_]+)` \| (\d{3}|any) \| .+ \|$", re.MULTILINE)
# Where a code is no literal, what it may be is gathered below.
COMPUTED = {
    ("problems.py", "_CODES[status]"),
    ("problems.py", "_CODES.get(status, 'refused')"),
    ("decisions.py", "refused.code"),
    ("preview.py", "preview.reason.value"),
    ("score.py", "error.code"),
    ("score.py", "content.code"),
    ("score.py", "rejection.reason.value"),
}


def calls(folder: str, name: str) -> Iterator[tuple[Path, ast.Call]]:
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name and node.args:
                yield path, node


def first_words(name: str) -> set[str]:
    """The literal first arguments of calls of `name` in the application."""
    return {str(one.args[0].value) for _, one in calls("app", name) if isinstance(one.args[0], ast.Constant)}


def raised() -> Told:
    found: Told = {("refused", "any")}
    for path, call in calls("app/api", "Problem"):
        status, code = call.args[:2]
        if isinstance(code, ast.Constant) and isinstance(status, ast.Constant):
            found.add((str(code.value), str(status.value)))
        else:
            assert (path.name, ast.unparse(code)) in COMPUTED
    found |= {(code, str(status)) for status, code in problems._CODES.items()}
    found |= {(code, str(status)) for code, status in routes_decisions._STATUS.items()}
    found |= {(code, "503") for code in first_words("ScoringUnavailable")}
    found |= {(reason.value, "422") for reason in RejectReason}
    return found | {(NOT_SERVED, "403"), (NO_SUCH_OBJECT, "404")}


def test_the_table_names_exactly_the_codes_that_are_raised() -> None:
    section = (ROOT / "docs" / "api.md").read_text(encoding="utf-8").partition("\n## Errors\n")[2].partition("\n## ")[0]
    told = _ROW.findall(section)
    assert len(told) == len(set(told))
    assert set(told) == raised()


def test_every_refusal_of_a_decision_has_a_status() -> None:
    assert first_words("DecisionRefused") == set(routes_decisions._STATUS)


def test_every_absence_is_one_of_two() -> None:
    assert {ast.unparse(one.args[0]) for _, one in calls("app", "Absent")} == {"NOT_SERVED", "NO_SUCH_OBJECT"}
