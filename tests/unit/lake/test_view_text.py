"""The views as text: names of columns, and what the two dialects write differently."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from app.inference.active import active_manifests
from app.inference.manifest import ModelManifest
from app.lake.sql.dialects import DIALECTS
from app.lake.sql.labels import model_columns
from app.lake.sql.session import tables_in, views_of
from app.settings import InferenceSettings, load_settings
from tests.support.lake.tables import lake_in_memory, rows_by_name


def _manifest(**changes: object) -> ModelManifest:
    (found, *_) = active_manifests(InferenceSettings())
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]  # any field of the manifest


def test_labels_become_names_that_sql_takes() -> None:
    manifest = _manifest(name="kind", labels=("T-Shirt", "t shirt", "ß"), multi_label=True, thresholds={}, reasons={})
    (model,) = model_columns([manifest])
    assert [label.column for label in model.labels] == ["kind_t_shirt", "kind_t_shirt_2", "kind_label"]
    assert (model.choice, model.version_column) == ("", "kind_version")


def test_a_name_that_is_taken_gets_a_number() -> None:
    manifest = _manifest(name="format", labels=("version", "b"), multi_label=False, thresholds={}, reasons={})
    (model,) = model_columns([manifest], {"format"})
    assert model.all() == (
        "format_2",
        "format_score",
        "format_version_2",
        "format_b",
        "format_version",
        "format_skipped",
    )


def test_a_model_more_is_columns_more(tmp_path: Path) -> None:
    settings = load_settings({})
    fewer = dataclasses.replace(settings, inference=dataclasses.replace(settings.inference, disabled=("category",)))
    with lake_in_memory({}, fewer) as duck:
        columns = duck.columns("predictions_all")
        assert "category" not in columns and "quality_blurry" in columns
        assert list(duck.columns("per_upload")) == ["day", "outcome", "flagged", "uploads"]


def test_trino_has_its_own_words_and_none_of_duckdb() -> None:
    for name in DIALECTS:
        text = "\n".join(view.query for view in views_of(load_settings({}), name))
        words = ("list_filter", "LAMBDA", "STRUCT(", "int8_values", "list_max"), ("element_at", "CROSS JOIN UNNEST")
        own, others = words if name == "duckdb" else words[::-1]
        assert all(word in text for word in own)
        assert not any(word in text for word in others)


def test_both_dialects_have_the_same_views_and_columns() -> None:
    one, other = (views_of(load_settings({}), name) for name in DIALECTS)
    assert [view.name for view in one] == [view.name for view in other]
    same = {"images_latest", "uploads", "per_upload", "per_content", "flagged_latest", "decisions_latest"}
    assert all(a.query == b.query for a, b in zip(one, other, strict=True) if a.name in same)


def test_the_printed_macro_does_what_is_built_in() -> None:
    macro = DIALECTS["duckdb"].preamble().replace("int8_values", "printed")
    values = "'\\x00\\x01\\x7F\\x80\\xFF'::BLOB"
    with lake_in_memory({}) as duck:
        duck.define(macro)
        (row,) = rows_by_name(
            duck, f"SELECT printed({values}) AS a, int8_values({values}) AS b, printed(''::BLOB) AS c"
        )
    assert row == {"a": [0, 1, 127, -128, -1], "b": [0, 1, 127, -128, -1], "c": []}


def test_the_tables_of_a_query_are_those_behind_its_views() -> None:
    views = views_of(load_settings({}))
    assert tables_in("SELECT 1", views) == frozenset()
    assert tables_in("select * from per_upload", views) == {"predictions", "flagged"}
    assert tables_in("select * from predictions_latest", views) == {"predictions", "removals"}
