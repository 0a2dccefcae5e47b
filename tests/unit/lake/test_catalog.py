"""A catalog that cannot be read is one sentence that can be waited out, whatever library says it."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from app.domain.lake import TABLES
from app.errors import LakeUnavailable
from app.lake.iceberg.catalog import create_tables, load_table, newest_snapshot, open_catalog
from app.settings import LakeSettings, Settings


def _settings(file: Path) -> Settings:
    return Settings(lake=LakeSettings(catalog_uri=str(file)))


def test_a_file_that_is_no_database_is_unavailable_not_a_crash(tmp_path: Path) -> None:
    file = tmp_path / "catalog.db"
    file.write_bytes(b"no database at all" * 100)
    with pytest.raises(LakeUnavailable, match=r"^opening the sqlite catalog .* failed: DatabaseError") as told:
        open_catalog(_settings(file))
    assert "\n" not in str(told.value)


def test_a_catalog_that_breaks_while_it_is_open_is_unavailable_to_all_who_ask(tmp_path: Path) -> None:
    settings = _settings(tmp_path / "catalog.db")
    catalog = open_catalog(settings)
    assert load_table(catalog, settings, TABLES[0]) is None
    with sqlite3.connect(settings.lake.catalog_uri) as database:
        database.execute("drop table iceberg_tables")
    for ask in (load_table, newest_snapshot):
        with pytest.raises(LakeUnavailable, match="reading the catalog for predictions"):
            ask(catalog, settings, TABLES[0])
    with pytest.raises(LakeUnavailable):
        create_tables(catalog, settings)


def test_a_rest_catalog_that_is_away_is_unavailable_by_its_own_address() -> None:
    settings = Settings(lake=LakeSettings(catalog="rest", catalog_uri="http://127.0.0.1:9"))
    with pytest.raises(LakeUnavailable, match=r"opening the rest catalog http://127\.0\.0\.1:9"):
        open_catalog(settings)
