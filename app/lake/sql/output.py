"""Answers as text: aligned columns, CSV or JSON. Pure, except for writing to the given stream."""

from __future__ import annotations

import base64
import csv
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Final, TextIO

_NUMBERS: Final = (int, float, Decimal)


def plain_value(value: Any) -> Any:
    """Return a value that JSON can represent: times as ISO 8601 in UTC, bytes as base64."""
    match value:
        case bool() | int() | float() | str() | None:
            return value
        case Decimal():
            return int(value) if value == value.to_integral_value() else float(value)
        case datetime():
            return (value.astimezone(UTC).isoformat() if value.tzinfo else value.isoformat()).replace("+00:00", "Z")
        case date() | time():
            return value.isoformat()
        case timedelta():
            return value.total_seconds()
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case dict():
            return {str(name): plain_value(part) for name, part in value.items()}
        case list() | tuple():
            return [plain_value(part) for part in value]
        case _:
            return str(value)


def cell(value: Any) -> str:
    """Return a value as one cell of a table: fractions with six digits, lists and rows as JSON, null as empty text."""
    plain = plain_value(value)
    match plain:
        case None:
            return ""
        case bool():
            return "true" if plain else "false"
        case float():
            return f"{plain:.6g}"
        case dict() | list():
            return json.dumps(plain, ensure_ascii=False)
        case _:
            return str(plain)


def aligned(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Return a header, a rule and the rows as lines of aligned columns; numbers are right-aligned."""
    cells = [[cell(value).replace("\n", "\\n") for value in row] for row in rows]
    widths = [max(map(len, (name, *(row[at] for row in cells)))) for at, name in enumerate(columns)]
    right = [is_number(row[at] for row in rows) for at in range(len(columns))]

    def line(parts: Sequence[str]) -> str:
        placed = (
            part.rjust(width) if number else part.ljust(width)
            for part, width, number in zip(parts, widths, right, strict=True)
        )
        return "  ".join(placed).rstrip()

    return [line(columns), "  ".join("-" * width for width in widths), *map(line, cells)]


def is_number(values: Iterable[Any]) -> bool:
    """Return True if there are values and all are numbers, nulls ignored."""
    there = [value for value in values if value is not None]
    return bool(there) and all(isinstance(value, _NUMBERS) and not isinstance(value, bool) for value in there)


def write_csv(stream: TextIO, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Write a header and the rows, nested values as JSON. Return the number of rows."""
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    count = 0
    for row in rows:
        writer.writerow([_csv_value(value) for value in row])
        count += 1
    return count


def _csv_value(value: Any) -> Any:
    plain = plain_value(value)
    match plain:
        case bool():
            return "true" if plain else "false"
        case dict() | list():
            return json.dumps(plain, ensure_ascii=False)
        case _:
            return plain


def write_json(stream: TextIO, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
    """Write one JSON array with one object per row and line. Return the number of rows."""
    count = 0
    stream.write("[")
    for row in rows:
        document = {name: plain_value(value) for name, value in zip(columns, row, strict=True)}
        stream.write(f"{',' if count else ''}\n{json.dumps(document, ensure_ascii=False)}")
        count += 1
    stream.write("\n]\n" if count else "]\n")
    return count
