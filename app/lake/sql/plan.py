"""Query plan as text: steps, rows, and the number of files read of each table. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

# Steps that wrap the query, or only rename columns.
_WRAPPERS: Final = frozenset({"QUERY", "EXPLAIN_ANALYZE", "RESULT_COLLECTOR", "ARROW_COLLECTOR", "PROJECTION"})
_SHOWN: Final = ("Projections", "Filters", "Groups", "Aggregates", "Join Type", "Conditions", "Expression", "Top")
_LONGEST: Final = 120


@dataclass(frozen=True, slots=True)
class PlannedTable:
    """Table in a plan: folder and number of its files."""

    name: str
    location: str
    files: int


def plan_lines(plan: dict[str, Any], tables: Sequence[PlannedTable]) -> list[str]:
    """Return the steps of an executed plan, last step first, with indented inputs; then the files that were read."""
    lines = [f"{float(plan.get('latency', 0.0)):.3f} s"]
    for depth, node in _steps(plan, 0):
        info = node.get("extra_info") or {}
        lines.append("  " * depth + _headline(node, info, tables))
        lines += ["  " * depth + f"    {name.lower()}: {_short(info[name])}" for name in _SHOWN if info.get(name)]
    read = files_read(plan, tables)
    lines += [f"{table.name}: {_files(*read[table.name], table)}" for table in tables if table.name in read]
    return lines


def _files(count: int, scans: int, table: PlannedTable) -> str:
    if scans == 1:
        return f"{count} of {table.files} files read"
    return f"{count} files read in {scans} scans; it has {table.files}"


def files_read(plan: dict[str, Any], tables: Sequence[PlannedTable]) -> dict[str, tuple[int, int]]:
    """Return for each table of the query the number of files read, and of scans."""
    by_table: dict[str, tuple[int, int]] = {}
    for _, node in _steps(plan, 0):
        info = node.get("extra_info") or {}
        if _is_scan(info):
            name = _table_of(info, tables)
            files, scans = by_table.get(name, (0, 0))
            by_table[name] = files + int(info.get("Total Files Read", 0)), scans + 1
    return by_table


def _steps(node: dict[str, Any], depth: int) -> Iterator[tuple[int, dict[str, Any]]]:
    wrapper = node.get("operator_type", "QUERY") in _WRAPPERS
    if not wrapper:
        yield depth, node
    for child in node.get("children", ()):
        yield from _steps(child, depth if wrapper else depth + 1)


def _headline(node: dict[str, Any], info: dict[str, Any], tables: Sequence[PlannedTable]) -> str:
    rows = f"{int(node.get('operator_cardinality', 0)):,} rows"
    seconds = f"{float(node.get('operator_timing', 0.0)):.3f} s"
    step = str(node["operator_type"]).lower().replace("_", " ")
    if not _is_scan(info):
        return f"{step}: {rows}, {seconds}"
    name = _table_of(info, tables)
    total = sum(table.files for table in tables if table.name == name)
    files = f"{info.get('Total Files Read', 0)} of {total} files" if total else "no files"
    return f"scan {name}: {files}, {rows}, {seconds}"


def _is_scan(info: dict[str, Any]) -> bool:
    return info.get("Function") == "ICEBERG_SCAN" or "Total Files Read" in info


def _table_of(info: dict[str, Any], tables: Sequence[PlannedTable]) -> str:
    files = str(info.get("Filename(s)", ""))
    for table in tables:
        if table.location and f"{table.location}/" in files:
            return table.name
    return "a table"


def _short(value: Any) -> str:
    text = ", ".join(map(str, value)) if isinstance(value, list) else " ".join(str(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
