"""SQL over Iceberg tables on an S3 server: the verbs as people call them, and which files a query reads."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from app.domain.lake import table_named
from app.errors import QueryRefused
from app.lake.iceberg.scans import TableScan
from app.lake.sql.answers import PAGE, questions
from app.lake.sql.duckdb_session import Duck
from app.lake.sql.plan import PlannedTable, files_read, plan_lines
from app.lake.sql.session import open_lake
from app.settings import ROOT, Settings, load_settings
from app.stack.local import LocalStack
from app.systems.s3.admin import create_bucket
from tests.support.lake.tables import DAY_MS, MadeLake, lake_in_folder, rows_by_name, rows_of
from tests.support.lake.week import A_DAY, DAYS, Week, made_week

FIRST_DAY_MS = 1_794_960_000_000  # 2026-11-18
COUNT = "SELECT count(*) AS n FROM predictions"


@dataclass(frozen=True, slots=True)
class StoredLake:
    made: MadeLake
    week: Week
    environment: dict[str, str]

    def sightline(self, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
        environment = {**_clean(), **self.environment, **changes}
        return subprocess.run(
            [sys.executable, "-m", "app", "lake", *words],
            cwd=ROOT,
            env={name: value for name, value in environment.items() if value},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("SIGHTLINE_", "AWS_"))}


@pytest.fixture(scope="module")
def stored(stack: LocalStack, tmp_path_factory: pytest.TempPathFactory) -> StoredLake:
    """A week in MiniStack, five days of five tables; tests read it only."""
    asyncio.run(create_bucket(stack.s3, "lake-sql"))
    environment = {name: value for name, value in stack.environment.items() if name.startswith("SIGHTLINE_S3_")} | {
        "SIGHTLINE_LAKE_CATALOG_URI": str(tmp_path_factory.mktemp("lake") / "catalog.db"),
        "SIGHTLINE_LAKE_WAREHOUSE": "s3://lake-sql/warehouse",
        "SIGHTLINE_STACK_VAR_DIR": "/nonexistent",
    }
    made = MadeLake(load_settings(environment))
    week = made_week(FIRST_DAY_MS)
    made.fill(week.tables())
    return StoredLake(made, week, environment)


@pytest.fixture
def made(tmp_path: Path) -> MadeLake:
    """A lake of this test alone, in files."""
    return MadeLake(lake_in_folder(tmp_path))


def asked(settings: Settings, sql: str, **how: Any) -> list[dict[str, Any]]:
    with open_lake(settings, **how) as (duck, _):
        return rows_by_name(duck, sql)


def read(duck: Duck, scans: list[TableScan], sql: str) -> tuple[int, int]:
    """How many files of predictions a query reads, and in how many scans."""
    tables = [PlannedTable(scan.table.name, scan.location, scan.files) for scan in scans]
    return files_read(duck.plan(sql), tables)["predictions"]


def test_a_query_is_answered_from_the_store_in_every_format(stored: StoredLake, tmp_path: Path) -> None:
    sql = "SELECT outcome, count(*) AS n, min(event_time) AS first FROM predictions_all GROUP BY 1 ORDER BY 1"
    outcomes = [upload.outcome for upload in (*stored.week.uploads, *stored.week.rescored)]
    expected = {one: outcomes.count(one) for one in sorted(set(outcomes))}

    plain = stored.sightline("sql", sql)
    assert plain.stderr == ""
    lines = plain.stdout.splitlines()
    assert lines[0].split() == ["outcome", "n", "first"]
    assert [line.split()[:2] for line in lines[2:]] == [[one, str(count)] for one, count in expected.items()]
    assert lines[-1].endswith("2026-11-18T00:00:00Z")

    told = json.loads(stored.sightline("sql", sql, "--format", "json").stdout)
    assert [(row["outcome"], row["n"]) for row in told] == list(expected.items())

    query, sheet, parquet = tmp_path / "query.sql", tmp_path / "answer.csv", tmp_path / "answer.parquet"
    query.write_text(f"-- counted\n{sql};\n")
    assert stored.sightline("sql", "--file", str(query), "--output", str(sheet)).returncode == 0
    rows = list(csv.DictReader(io.StringIO(sheet.read_text())))
    assert {row["outcome"]: int(row["n"]) for row in rows} == expected

    done = stored.sightline("sql", "SELECT * FROM predictions", "--output", str(parquet))
    assert done.stderr == f"{parquet}: {len(outcomes)} rows\n"
    assert pq.read_table(parquet).num_rows == len(outcomes)


def test_an_answer_is_drawn(stored: StoredLake, tmp_path: Path) -> None:
    picture = tmp_path / "days.png"
    done = stored.sightline("sql", "SELECT day, uploads, flagged FROM flag_rate_daily", "--plot", str(picture))
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes().startswith(b"\x89PNG")
    done = stored.sightline("sql", "SELECT day FROM flag_rate_daily", "--plot", str(picture))
    assert done.returncode == 2
    assert "--plot needs rows" in done.stderr


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("SELECT categry FROM predictions_all", 'Referenced column "categry" not found'),
        ("SELEC 1", 'syntax error at or near "SELEC" (line 1)'),
        ("SELECT * FROM prediction", "Table with name prediction does not exist"),
        ("DROP VIEW predictions", "only queries are run"),
        ("COPY (SELECT 1) TO 'x.csv'", "only queries are run"),
        ("SELECT 1; SELECT 2", "give one statement; there are 2"),
        ("", "give one query"),
        ("SELECT CAST('x' AS INTEGER)", "Could not convert string 'x' to INT32"),
    ],
)
def test_a_wrong_query_is_one_sentence_and_exit_code_2(stored: StoredLake, sql: str, complaint: str) -> None:
    done = stored.sightline("sql", sql)
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("sightline: ")


def test_a_store_that_is_away_is_one_sentence_and_exit_code_2(stored: StoredLake) -> None:
    done = stored.sightline("sql", COUNT, SIGHTLINE_S3_ENDPOINT="http://127.0.0.1:1")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "reading the catalog for predictions failed" in done.stderr


def test_keys_come_from_the_aws_chain_where_the_settings_have_none(stored: StoredLake) -> None:
    keys = {name: stored.environment[f"SIGHTLINE_S3_{name}"] for name in ("ACCESS_KEY", "SECRET_KEY")}
    none = {"SIGHTLINE_S3_ACCESS_KEY": "", "SIGHTLINE_S3_SECRET_KEY": ""}
    chain = {"AWS_ACCESS_KEY_ID": keys["ACCESS_KEY"], "AWS_SECRET_ACCESS_KEY": keys["SECRET_KEY"]}
    done = stored.sightline("sql", COUNT, "--format", "csv", **none, **chain)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["n", str(len(stored.week.uploads) + len(stored.week.rescored))]


def test_the_verbs_tell_what_there_is(stored: StoredLake) -> None:
    told = json.loads(stored.sightline("tables", "--json").stdout)
    rows = {row["table"]: row["rows"] for row in told["tables"]}
    assert rows == {name: len(records) for name, records in stored.week.tables().items()}
    assert "predictions_latest" in told["views"]
    assert "| " not in stored.sightline("tables", "uploads").stdout
    assert "no table or view 'upload'" in stored.sightline("tables", "upload").stderr
    trino = stored.sightline("views", "--dialect", "trino").stdout
    assert trino.startswith("CREATE OR REPLACE VIEW predictions_all AS")


def test_answers_renews_a_page(stored: StoredLake, tmp_path: Path) -> None:
    page = tmp_path / "analytics.md"
    shutil.copy(PAGE, page)
    done = stored.sightline("answers", "--page", str(page), "--write")
    assert done.returncode == 0, done.stderr
    (hits,) = (one.answer for one in questions(page.read_text()) if one.title.startswith("6."))
    assert hits.splitlines()[2].split()[0] == "2026-11-18"
    assert done.stdout.count("\n-") == 10


def test_a_query_reads_only_the_files_that_it_needs(stored: StoredLake) -> None:
    """The week has a file for each day of uploads, and those in which the job's outcomes lie."""
    days = "TIMESTAMPTZ '2026-11-19' AND {} < TIMESTAMPTZ '2026-11-20'"
    with open_lake(stored.made.settings) as (duck, scans):
        (total,) = (scan.files for scan in scans if scan.table.name == "predictions")
        assert total == DAYS + 3
        assert read(duck, scans, COUNT + " WHERE outcome <> ''") == (total, 1)
        published = f"{COUNT} WHERE outcome <> '' AND kafka_timestamp >= {days.format('kafka_timestamp')}"
        assert read(duck, scans, published) == (1, 1)
        # The second day's outcomes lie in its file and in the fifth's, when the job scored some of them again. The
        # fourth has some of the first day's, so its bounds hold the second too.
        uploaded = f"FROM predictions_all WHERE event_time >= {days.format('event_time')}"
        assert read(duck, scans, f"SELECT category, count(*) {uploaded} GROUP BY 1") == (3, 1)
        (row,) = rows_by_name(duck, f"SELECT count(*) FILTER (WHERE job_id IS NULL) AS n {uploaded}")
        assert row["n"] == A_DAY


def test_a_plan_in_words_names_files_and_columns(stored: StoredLake) -> None:
    done = stored.sightline(
        "sql", "--explain", "SELECT format FROM predictions WHERE kafka_timestamp < TIMESTAMPTZ '2026-11-19'"
    )
    assert "scan predictions: 1 of 8 files, 48 rows" in done.stdout
    assert "projections: format" in done.stdout
    assert done.stdout.endswith("predictions: 1 of 8 files read\n")


def test_a_plan_of_tables_without_files_is_told_too(made: MadeLake) -> None:
    with open_lake(made.settings) as (duck, _):
        assert plan_lines(duck.plan(COUNT), [])[0].endswith(" s")


def test_an_empty_table_has_its_columns(made: MadeLake, tmp_path: Path) -> None:
    notes: list[str] = []
    with open_lake(made.settings, query="SELECT * FROM flagged_latest", note=notes.append) as (duck, _):
        assert rows_by_name(duck, "SELECT * FROM flagged_latest") == []
        assert duck.columns("predictions")["event_time_ms"] == "TIMESTAMP WITH TIME ZONE"
    assert sorted(notes) == [
        f"{name} is empty: nothing has been written to it yet" for name in ("flagged", "predictions", "removals")
    ]
    nowhere = replace(made.settings.lake, catalog_uri=str(tmp_path / "other.db"))
    notes.clear()
    with open_lake(replace(made.settings, lake=nowhere), query=COUNT, note=notes.append) as (duck, _):
        assert rows_by_name(duck, COUNT) == [{"n": 0}]
    assert notes == ["predictions is empty: the catalog has no such table yet"]


def test_rows_that_were_overwritten_or_deleted_are_gone(made: MadeLake) -> None:
    week = made_week(FIRST_DAY_MS)
    made.fill({"predictions": [(upload, upload.scored_at_ms) for upload in week.uploads]})
    new = rows_of(table_named("predictions"), [(replace(week.uploads[0], worker="mended"), FIRST_DAY_MS)])
    made.replace_day("predictions", FIRST_DAY_MS, new)
    sql = "SELECT count(*) AS n, count(*) FILTER (WHERE worker = 'mended') AS mended FROM predictions"
    assert asked(made.settings, sql) == [{"n": (DAYS - 1) * A_DAY + 1, "mended": 1}]
    second = datetime.fromtimestamp((FIRST_DAY_MS + DAY_MS) / 1000, UTC)
    third = datetime.fromtimestamp((FIRST_DAY_MS + 2 * DAY_MS) / 1000, UTC)
    made.table("predictions").delete(
        f"kafka_timestamp >= '{second.isoformat()}' and kafka_timestamp < '{third.isoformat()}'"
    )
    assert asked(made.settings, sql) == [{"n": (DAYS - 2) * A_DAY + 1, "mended": 1}]


def test_tables_can_be_asked_as_they_were(made: MadeLake) -> None:
    week = made_week(FIRST_DAY_MS)
    before = made.append("predictions", [(upload, upload.scored_at_ms) for upload in week.uploads[:10]])
    made.append("predictions", [(upload, upload.scored_at_ms) for upload in week.uploads[10:30]])
    made.append("flagged", [(flag, flag.decided_at_ms) for flag in week.flags[:5]])
    sql = "SELECT (SELECT count(*) FROM predictions) AS n, (SELECT count(*) FROM flagged) AS flags"
    assert asked(made.settings, sql) == [{"n": 30, "flags": 5}]
    # All tables as they were when that snapshot was made: there were no flags then.
    assert asked(made.settings, sql, snapshot_id=before) == [{"n": 10, "flags": 0}]
    (first, _) = made.table("predictions").snapshots()
    assert asked(made.settings, sql, at_ms=first.timestamp_ms) == [{"n": 10, "flags": 0}]
    assert asked(made.settings, sql, at_ms=1) == [{"n": 0, "flags": 0}]


def test_a_table_of_an_older_schema_has_nulls_for_what_it_lacks(made: MadeLake) -> None:
    week = made_week(FIRST_DAY_MS)
    rows = rows_of(table_named("predictions"), [(upload, upload.scored_at_ms) for upload in week.uploads[:10]])
    with made.table("predictions").update_schema() as update:
        update.delete_column("event_key")
    made.append_rows("predictions", rows.drop_columns(["event_key"]))
    assert asked(made.settings, "SELECT DISTINCT event_key FROM predictions") == [{"event_key": None}]
    assert len(asked(made.settings, "SELECT * FROM predictions_latest")) > 0


def test_a_query_that_needs_more_memory_than_it_may_have_is_refused(made: MadeLake) -> None:
    settings = replace(made.settings, lake=replace(made.settings.lake, sql_memory_bytes=64 * 1024 * 1024))
    sql = "SELECT list(a.range) FROM range(100000000) AS a"
    with pytest.raises(QueryRefused, match="SIGHTLINE_LAKE_SQL_MEMORY_BYTES"):
        asked(settings, sql)
