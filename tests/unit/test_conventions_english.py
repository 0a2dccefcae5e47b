"""Rules of plain English that a machine can check (tests/support/english.py), for all files that are not "not yet"."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.settings import ROOT
from tests.support.english import MAX_DOC_COLUMNS, bad_docstrings, bad_names, long_prose_lines

# Sources (paths or prefixes) whose English is not yet plain. Remove an entry after its clean-up; never add one.
_NOT_YET_PLAIN = (
    "agents/",
    "app/archive/",
    "app/bench/",
    "app/bridge/",
    "app/compose/",
    "app/dead_letters/",
    "app/demo/",
    "app/documentation/",
    "app/domain/policy/parse.py",
    "app/explain/",
    "app/index/",
    "app/lake/verbs/",
    "app/ledger/",
    "app/parking/",
    "app/ports",
    "app/rescoring/",
    "app/scoring/",
    "app/streaming/lanes.py",
    "app/systems/faust/",
    "app/systems/kafka/",
    "app/topics",
    "app/training/models_verb.py",
    "app/training/verb.py",
    "app/verbs/",
    "schemas/",
)
# Pages whose prose lines are not yet wrapped at MAX_DOC_COLUMNS.
_NOT_YET_WRAPPED = {
    "console.md",
}


def _plain_sources() -> Iterator[tuple[str, str]]:
    for path in sorted(path for package in ("app", "agents", "schemas") for path in (ROOT / package).rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(_NOT_YET_PLAIN):
            yield name, path.read_text(encoding="utf-8")


def test_docstrings_begin_with_a_verb_or_a_noun() -> None:
    assert [f"{name}:{place}" for name, text in _plain_sources() for place in bad_docstrings(text)] == []


def test_values_are_named_for_what_they_are() -> None:
    assert [f"{name}:{place}" for name, text in _plain_sources() for place in bad_names(text)] == []


def test_prose_lines_of_docs_have_a_bound() -> None:
    pages = [page for page in sorted((ROOT / "docs").rglob("*.md")) if page.name not in _NOT_YET_WRAPPED]
    assert len(pages) > 20
    texts = [(page.relative_to(ROOT).as_posix(), page.read_text(encoding="utf-8")) for page in pages]
    assert [f"{name}:{line}" for name, text in texts for line in long_prose_lines(text)] == []


@pytest.mark.parametrize("word", ["What", "Whoever", "Whether", "Of", "Where", "Nothing", "Such", "Returns"])
@pytest.mark.parametrize(
    "place", ["", "def f() -> None:\n    ", "class C:\n    ", "async def f() -> None:\n    ", "X = 1\n"]
)
def test_a_docstring_that_begins_with_a_clause_is_refused(word: str, place: str) -> None:
    assert [bad.split(": ")[1] for bad in bad_docstrings(f'{place}"""{word} it is."""\n')] == [word.lower()]
    assert list(bad_docstrings(f'{place}"""Return the key."""\n')) == []


@pytest.mark.parametrize(
    "source",
    [
        "found = 1",
        "told: int = 1",
        "for one in x: pass",
        "def f(said: int) -> None: ...",
        "f = lambda one: one",
        "def again() -> None: ...",
        "x = [one for one in y]",
        "class C:\n    found: int",
        "match x:\n    case [one]: pass",
        "if (found := x): pass",
        "with x as one: pass",
        "self._found = 1",
    ],
)
def test_a_name_that_says_nothing_of_its_value_is_refused(source: str) -> None:
    assert len(list(bad_names(source))) == 1
    assert list(bad_names("for row in found_rows: pass")) == []


def test_a_long_prose_line_is_refused() -> None:
    long = "word " * 30
    assert len(long) > MAX_DOC_COLUMNS
    page = f"# {long}\n\n{long}\n| {long} |\n\n    {long}\n\n```\n{long}\n```\n- {long}\n{'x' * 200}\n"
    assert list(long_prose_lines(page)) == [3, 11]
    generated = f"<!-- table: begin (made by a test) -->\n{long}\n<!-- table: end -->\n{long}\n"
    assert list(long_prose_lines(generated)) == [4]
