"""The data dictionary: every column of every table and view, none without a meaning and none stale."""

from __future__ import annotations

from app.documentation.pages import generated_pages
from app.domain.lake import TABLES
from app.domain.lake_columns import TABLE_COLUMNS, VIEW_COLUMNS, VIEWS
from app.lake.iceberg.catalog import iceberg_schema
from app.lake.sql.dictionary import dictionary
from app.lake.sql.schema import table_columns
from app.lake.sql.session import views_of
from app.settings import InferenceSettings, load_settings
from tests.support.lake.tables import lake_in_memory


def test_tables_and_views_are_as_the_engine_sees_them() -> None:
    with lake_in_memory({}) as duck:
        for relation in dictionary(InferenceSettings()):
            told = {column.name: column.kind for column in relation.columns}
            seen = {name: kind.replace('"', "") for name, kind in duck.columns(relation.name).items()}
            assert told == seen, relation.name


def test_tables_have_the_columns_that_iceberg_has() -> None:
    for table in TABLES:
        there = [field.name for field in iceberg_schema(table).fields]
        assert [column.name for column in table_columns(table)] == there


def test_every_view_is_described_and_every_word_is_used() -> None:
    assert {view.name for view in views_of(load_settings({}))} == set(VIEWS) == set(VIEW_COLUMNS)
    relations = {
        relation.name: {column.name for column in relation.columns} for relation in dictionary(InferenceSettings())
    }
    stale = [
        f"{name}.{column}"
        for meanings in (TABLE_COLUMNS, VIEW_COLUMNS)
        for name, columns in meanings.items()
        for column in columns
        if column not in relations[name]
    ]
    assert stale == []


def test_meanings_are_sentences() -> None:
    for relation in dictionary(InferenceSettings()):
        for column in relation.columns:
            assert len(column.meaning) > 5 and column.meaning.endswith("."), f"{relation.name}.{column.name}"


def test_the_page_has_them_all() -> None:
    page = generated_pages()["lake-tables.md"]
    for relation in dictionary(InferenceSettings()):
        assert f"### {relation.name}\n" in page
        assert all(f"| `{column.name}` |" in page for column in relation.columns)
