"""Every query that ships is parsed as Trino and as Athena, and the shared expressions run on DuckDB."""

from __future__ import annotations

import re

import duckdb
import pytest
import sqlglot
from sqlglot import exp
from sqlglot.errors import ParseError

from app.lake.sql.answers import PAGE, questions
from app.lake.sql.dialects import DIALECTS, DuckDB
from app.lake.sql.session import views_of
from app.settings import load_settings

_ENGINES = ("trino", "athena")
# Functions of Trino that sqlglot has no name for.
_OF_TRINO = {"zip_with"}
_ACTIVE = [("nsfw", "2"), ("quality", "1")]


def _unknown_functions(sql: str) -> set[str]:
    tree = sqlglot.parse_one(sql, dialect="trino")
    return {function.name for function in tree.find_all(exp.Anonymous)} - _OF_TRINO


@pytest.mark.parametrize("engine", _ENGINES)
def test_every_view_is_a_statement_of_trino_and_athena(engine: str) -> None:
    views = views_of(load_settings({}), "trino")
    assert len(views) > 10
    for view in views:
        (statement,) = sqlglot.parse(view.statement(), dialect=engine)
        assert isinstance(statement, exp.Create), view.name
        assert _unknown_functions(view.query) == set(), view.name


@pytest.mark.parametrize("engine", _ENGINES)
def test_the_check_refuses_the_text_for_duckdb(engine: str) -> None:
    (text,) = (view.query for view in views_of(load_settings({})) if view.name == "predictions_all")
    with pytest.raises(ParseError):
        sqlglot.parse(text, dialect=engine)
    assert _unknown_functions("SELECT int8_values(b) FROM embeddings") == {"int8_values"}


@pytest.mark.parametrize("engine", ("duckdb", *_ENGINES))
def test_every_question_of_the_page_parses(engine: str) -> None:
    asked = questions(PAGE.read_text(encoding="utf-8"))
    assert len(asked) == 10
    for question in asked:
        (statement,) = sqlglot.parse(question.sql, dialect=engine)
        assert isinstance(statement, exp.Query), question.title


def test_a_question_with_functions_that_trino_lacks_has_a_note_that_parses() -> None:
    page = PAGE.read_text(encoding="utf-8")
    sections = {section.partition("\n")[0]: section for section in page.split("\n## ")}
    for question in questions(page):
        note = re.search(r"^Trino: (.+?)(?:\n\n|\Z)", sections[question.title], re.M | re.S)
        assert note or not _unknown_functions(question.sql), question.title
        codes = re.findall(r"`([^`]+)`", note[1]) if note else []
        for code in (code for code in codes if "…" not in code):
            for engine in _ENGINES:
                assert sqlglot.parse_one(code, dialect=engine) is not None
                assert _unknown_functions(code) == set()


def _run(expression: str, scores: str, previous: str, outcome: str = "scored") -> object:
    kind = "STRUCT(model TEXT, version TEXT)[]"
    columns = f"{scores}::{kind} AS scores, {previous}::{kind} AS previous, '{outcome}' AS outcome"
    (row,) = duckdb.sql(f"SELECT {expression} FROM (SELECT {columns}) AS predictions").fetchall()
    return row[0]


def test_scores_in_force_are_the_new_ones_and_the_others_of_before() -> None:
    expression = DuckDB().in_force(_ACTIVE)
    new, old = (
        "[{'model': 'nsfw', 'version': '2'}]",
        "[{'model': 'nsfw', 'version': '2'}, {'model': 'quality', 'version': '1'}]",
    )
    nsfw, quality = {"model": "nsfw", "version": "2"}, {"model": "quality", "version": "1"}
    assert _run(expression, new, old) == [nsfw, quality]
    assert _run(expression, new, old, "gone") == [nsfw]
    assert _run(expression, "[{'model': 'nsfw', 'version': '1'}]", "[]") == []


def test_rows_older_than_the_column_keep_their_scores() -> None:
    """Null joined to an array is null in Trino, and in DuckDB's operator that the text is translated to."""
    assert _run(DuckDB().in_force(_ACTIVE), "[{'model': 'nsfw', 'version': '2'}]", "NULL") == [
        {"model": "nsfw", "version": "2"}
    ]


def test_a_model_that_did_not_answer_is_null() -> None:
    assert _run(DuckDB().last_said("quality", "1"), "[{'model': 'nsfw', 'version': '2'}]", "NULL") is None


def test_the_highest_label_keeps_its_names() -> None:
    labels = "[{'label': 'hat', 'value': 0.2}, {'label': 'it''s', 'value': 0.7}]"
    (row,) = duckdb.sql(f"SELECT ({DuckDB().highest(labels)}).label, ({DuckDB().highest(labels)}).value").fetchall()
    assert row == ("it's", 0.7)


def test_a_value_cannot_end_its_quotes() -> None:
    for dialect in DIALECTS.values():
        text = dialect.first_with("scores", "model", "it's' OR 'x")
        sqlglot.parse_one(text, dialect=dialect.name)
        assert "'it''s'' OR ''x'" in text
