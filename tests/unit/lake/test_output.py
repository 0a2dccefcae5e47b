"""Answers as text, plans in words, and what the engine itself is given by us."""

from __future__ import annotations

import io
import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.errors import QueryRefused
from app.lake.sql.output import aligned, write_csv, write_json
from app.lake.sql.plan import PlannedTable, files_read, plan_lines
from app.lake.sql.plot import plot
from tests.support.lake.tables import lake_in_memory, rows_by_name

NAMES = ("name", "n", "at", "nested", "bytes", "none")
ROW: tuple[Any, ...] = ("a,b", Decimal(7), datetime(2026, 11, 23, 9, tzinfo=UTC), [{"x": 1.5}], b"\x00\xff", None)


def test_columns_are_aligned_and_numbers_stand_right() -> None:
    rows = [("hat", 7, 0.123456789), ("t-shirt", 123, None)]
    assert aligned(("label", "n", "share"), rows) == [
        "label      n     share",
        "-------  ---  --------",
        "hat        7  0.123457",
        "t-shirt  123",
    ]
    assert aligned(("label",), []) == ["label", "-----"]


def test_a_line_break_stays_in_its_row() -> None:
    assert aligned(("key",), [("a\nb",)])[2:] == ["a\\nb"]


def test_csv_has_nested_values_as_json_and_bytes_as_base64() -> None:
    stream = io.StringIO()
    assert write_csv(stream, NAMES, [ROW]) == 1
    assert stream.getvalue().splitlines()[1] == '"a,b",7,2026-11-23T09:00:00Z,"[{""x"": 1.5}]",AP8=,'


def test_json_is_one_array_with_a_row_a_line() -> None:
    stream = io.StringIO()
    assert write_json(stream, NAMES, [ROW, ROW]) == 2
    told = json.loads(stream.getvalue())
    assert told[0] == {
        "name": "a,b",
        "n": 7,
        "at": "2026-11-23T09:00:00Z",
        "nested": [{"x": 1.5}],
        "bytes": "AP8=",
        "none": None,
    }
    assert len(stream.getvalue().splitlines()) == 4
    empty = io.StringIO()
    assert (write_json(empty, NAMES, []), json.loads(empty.getvalue())) == (0, [])


def test_a_plan_counts_files_by_table_over_all_scans() -> None:
    tables = [PlannedTable("predictions", "s3://lake/predictions", 40), PlannedTable("flagged", "s3://lake/flagged", 2)]
    scan = {
        "operator_type": "TABLE_SCAN",
        "operator_cardinality": 1234,
        "operator_timing": 0.5,
        "extra_info": {
            "Function": "ICEBERG_SCAN",
            "Projections": ["key", "sha256"],
            "Total Files Read": "4",
            "Filename(s)": "s3://lake/predictions/data/a.parquet",
        },
    }
    join = {"operator_type": "HASH_JOIN", "operator_cardinality": 9, "operator_timing": 0.1, "children": [scan, scan]}
    plan = {"latency": 1.5, "children": [{"operator_type": "EXPLAIN_ANALYZE", "children": [join]}]}
    assert files_read(plan, tables) == {"predictions": (8, 2)}
    assert plan_lines(plan, tables) == [
        "1.500 s",
        "hash join: 9 rows, 0.100 s",
        *["  scan predictions: 4 of 40 files, 1,234 rows, 0.500 s", "      projections: key, sha256"] * 2,
        "predictions: 8 files read in 2 scans; it has 40",
    ]


@pytest.mark.parametrize("places", [("hat", "dress"), (date(2026, 11, 24), date(2026, 11, 23)), (2, 1)])
def test_lines_over_times_and_numbers_and_bars_over_names_are_drawn(places: tuple[Any, ...], tmp_path: Path) -> None:
    picture = tmp_path / "answer.png"
    plot(picture, ("x", "n", "word", "share"), [(places[0], 3, "a", None), (places[1], 4, "b", 0.5)])
    assert picture.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(QueryRefused, match="a column of numbers"):
        plot(picture, ("x", "word"), [(places[0], "a")])


def test_signed_bytes_of_many_rows_some_null_some_left_out() -> None:
    blobs = "SELECT CASE WHEN i % 3 > 0 THEN from_hex(lpad(to_hex(i), 4, '0')) END AS v, i FROM range(10000) AS r(i)"
    with lake_in_memory({}) as duck:
        rows = rows_by_name(duck, f"SELECT i, int8_values(v) AS list FROM ({blobs}) WHERE i % 7 = 0")
    assert len(rows) == 1429
    for row in rows:
        pair = [byte - 256 if byte > 127 else byte for byte in row["i"].to_bytes(2)]
        assert row["list"] == (pair if row["i"] % 3 else None)
