"""A worker's folder: its own while it runs, and its tables apart from those of any other changelogs."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import StartupRefused
from app.settings import WorkerSettings
from app.systems.faust.data_dir import ORIGIN_FILE, TablesOrigin, claim_home, tables_folder

ORIGIN = TablesOrigin("cluster-1", "sightline.score", {"changelog-a": "id-1", "changelog-b": "id-2"})


def kept(folder: Path) -> Path:
    """Leave a table in `folder`."""
    (folder / "table").write_text("rows")
    return folder


def test_installations_on_one_data_folder_have_folders_of_their_own(tmp_path: Path) -> None:
    settings = WorkerSettings(data_dir=tmp_path)
    plain, prefixed = claim_home(settings, "score"), claim_home(settings, "score", "eu.")
    assert (plain.path.name, prefixed.path.name) == ("score-0", "eu.score-0")
    named = WorkerSettings(data_dir=tmp_path, id="one")
    homes = [claim_home(named, "score", prefix) for prefix in ("", "eu.")]
    with pytest.raises(StartupRefused, match="already runs"):
        claim_home(named, "score", "eu.")
    for home in (plain, prefixed, *homes):
        home.release()
    again = claim_home(settings, "score", "eu.")
    assert again.path == prefixed.path, "tables are found again"
    again.release()


def test_tables_are_found_again_by_the_same_changelogs(tmp_path: Path) -> None:
    first = kept(tables_folder(tmp_path, ORIGIN))
    again = tables_folder(tmp_path, replace(ORIGIN, changelogs=dict(reversed(list(ORIGIN.changelogs.items())))))
    assert again == first and (again / "table").read_text() == "rows"


def test_tables_of_another_cluster_or_group_stay_and_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = kept(tables_folder(tmp_path, ORIGIN))
    for other in (replace(ORIGIN, cluster="cluster-2"), replace(ORIGIN, group="eu.sightline.score")):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            found = tables_folder(tmp_path, other)
        assert found != first and [path.name for path in found.iterdir()] == [ORIGIN_FILE]
        assert f"{first} holds tables of cluster cluster-1" in caplog.text
    assert (tables_folder(tmp_path, ORIGIN) / "table").exists()


def test_tables_whose_changelogs_were_made_anew_are_removed(tmp_path: Path) -> None:
    first = kept(tables_folder(tmp_path, ORIGIN))
    found = tables_folder(tmp_path, replace(ORIGIN, changelogs={**ORIGIN.changelogs, "changelog-b": "id-3"}))
    assert found != first and not (found / "table").exists() and not first.exists()


def test_what_cannot_be_read_is_left_alone(tmp_path: Path) -> None:
    first = kept(tables_folder(tmp_path, ORIGIN))
    for text in ("", "[]", "{}"):
        (first / ORIGIN_FILE).write_text(text)
        tables_folder(tmp_path, replace(ORIGIN, changelogs={}))
        assert (first / "table").exists()


def test_a_folder_that_cannot_be_used_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(StartupRefused, match="cannot use the tables folder"):
        tables_folder(tmp_path / "absent", ORIGIN)
