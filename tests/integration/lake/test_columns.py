"""Tables of an older release: they get the columns of newer schemas, also inside lists, and old rows stay."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from app.domain.lake import table_named
from app.lake.iceberg.catalog import create_tables
from app.lake.sql.session import open_lake
from schemas.records import ImagePrediction, LabelScore, Rendition
from tests.support.lake.tables import DAY_MS, MadeLake, lake_in_folder, rows_by_name, rows_of
from tests.support.outcomes import prediction, scores

PUBLISHED_MS = 1_794_960_000_000
LOOKED_AT = (Rendition(0, 0.0, 0.0, 1.0, 1.0, "white"), Rendition(0, 0.0, 0.0, 1.0, 1.0, "dark"))
SINCE_VERSION_3 = ("frames", "truncated", "publishable", "renditions")


@pytest.fixture
def older(tmp_path: Path) -> MadeLake:
    """A lake whose tables have the columns of version 2, with one row."""
    made = MadeLake(lake_in_folder(tmp_path))
    with made.table("predictions").update_schema(allow_incompatible_changes=True) as update:
        for name in SINCE_VERSION_3:
            update.delete_column(name)
        for column in ("scores", "previous"):
            update.delete_column((column, "element", "labels", "element", "rendition"))
    table = made.table("predictions")
    rows = rows_of(table_named("predictions"), [(an_outcome("old.jpg", 1), PUBLISHED_MS)])
    made.append_rows("predictions", pa.Table.from_pylist(rows.to_pylist(), schema=table.schema().as_arrow()))
    return made


def an_outcome(key: str, order: int, **changes: Any) -> ImagePrediction:
    return prediction(key=key, order=order, scores=(scores("nsfw", nsfw=0.25),), **changes)


def a_newer_row() -> Any:
    seen = replace(scores("nsfw", nsfw=0.75), labels=(LabelScore("nsfw", 0.75, 1),))
    found = replace(
        an_outcome("new.png", 2, frames=3, truncated=True, publishable=True, renditions=LOOKED_AT), scores=(seen,)
    )
    return rows_of(table_named("predictions"), [(found, PUBLISHED_MS + DAY_MS)], 1)


def test_columns_that_a_schema_brings_are_added_at_every_depth(older: MadeLake) -> None:
    assert create_tables(older.catalog, older.settings) == ("predictions got new columns",)
    assert create_tables(older.catalog, older.settings) == ()
    older.append_rows("predictions", a_newer_row())
    rows = {row["key"]: row for row in older.table("predictions").scan().to_arrow().to_pylist()}
    old, new = rows["old.jpg"], rows["new.png"]
    assert [old[name] for name in SINCE_VERSION_3] == [None] * 4
    assert old["scores"][0]["labels"] == [{"label": "nsfw", "value": 0.25, "rendition": None}]
    assert [new[name] for name in SINCE_VERSION_3[:3]] == [3, True, True]
    assert [one["ground"] for one in new["renditions"]] == ["white", "dark"]
    assert new["scores"][0]["labels"][0]["rendition"] == 1


def test_views_read_rows_of_both_releases(older: MadeLake) -> None:
    create_tables(older.catalog, older.settings)
    older.append_rows("predictions", a_newer_row())
    with open_lake(older.settings) as (duck, _):
        told = rows_by_name(
            duck, "SELECT key, nsfw_nsfw AS value, publishable, frames FROM predictions_all ORDER BY key DESC"
        )
        assert told == [
            {"key": "old.jpg", "value": 0.25, "publishable": None, "frames": None},
            {"key": "new.png", "value": 0.75, "publishable": True, "frames": 3},
        ]
        ground = "SELECT renditions[label.rendition + 1].ground AS ground FROM (SELECT renditions, "
        ground += "unnest(scores[1].labels) AS label FROM predictions WHERE key = 'new.png')"
        assert rows_by_name(duck, ground) == [{"ground": "dark"}]
