"""SQL that DuckDB and Trino (Athena) write differently in the lake's views. Pure.

Expressions over arrays are written once, for Trino, and sqlglot translates them for DuckDB: the tests run them there.
What sqlglot translates wrongly or slowly is written twice: bytes as numbers, and rows out of nested arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlglot

# Only a scored upload has scores in force: one that cannot be read any more carries none.
_SCORED: Final = "predictions.outcome = 'scored'"


class Dialect:
    """The text for Trino and for Athena's engine version 3; another dialect overrides what it writes differently.

    Arguments are SQL; values are given as text that is quoted here.
    """

    name = "trino"

    def expression(self, text: str) -> str:
        """Return an expression, given as Trino writes it, in this dialect."""
        return text

    def first_with(self, rows: str, field: str, value: str) -> str:
        """Return the first row of an array of rows whose field has a value, or null."""
        return self.expression(_first(rows, f"x.{field} = {quoted(value)}"))

    def last_said(self, model: str, version: str) -> str:
        """Return the row of a model version in predictions.scores; where a scored upload lacks it, in `previous`."""
        matching = _any_of("x", [(model, version)])
        now, before = (
            _first("predictions.scores", matching),
            _first("predictions.previous", f"{_SCORED} AND {matching}"),
        )
        return self.expression(f"coalesce({now}, {before})")

    def in_force(self, active: Sequence[tuple[str, str]]) -> str:
        """Return the rows of all active models and versions, each as `last_said` returns it."""
        new = "cardinality(filter(predictions.scores, y -> y.model = x.model AND y.version = x.version)) = 0"
        before = f"filter(predictions.previous, x -> {_SCORED} AND {new} AND ({_any_of('x', active)}))"
        # Rows that are older than the column have null there, and null joined to an array is null.
        return self.expression(
            f"concat(filter(predictions.scores, x -> {_any_of('x', active)}), coalesce({before}, ARRAY[]))"
        )

    def highest(self, labels: str) -> str:
        """Return a row of `value` and `label`: the label with the highest score of an array of labels."""
        row = "CAST(ROW(x.value, x.label) AS ROW(value double, label varchar))"
        return self.expression(f"array_max(transform({labels}, x -> {row}))")

    def signed_bytes(self, blob: str) -> str:
        """Return the bytes of a blob as an array of whole numbers from -128 to 127."""
        byte = f"from_base(to_hex(substr({blob}, i, 1)), 16)"
        return f"transform(sequence(1, length({blob})), i -> CAST(({byte} + 128) % 256 - 128 AS tinyint))"

    def scores_of(self, columns: Sequence[str], score: Sequence[str], label: Sequence[str]) -> str:
        """Return a query: a row for each label of each element of predictions.scores.

        `columns` are taken from predictions, `score` and `label` from the elements of the two arrays.
        """
        chosen = [*columns, *(f"s.{name}" for name in score), *(f"l.{name}" for name in label)]
        return (
            f"SELECT {', '.join(chosen)}\nFROM predictions\n"
            "CROSS JOIN UNNEST(scores) AS s (model, version, preprocessing, labels, regions, cached, skipped)\n"
            "CROSS JOIN UNNEST(s.labels) AS l (label, value)"
        )

    def preamble(self) -> str:
        """Return what has to be defined before the views."""
        return ""


class DuckDB(Dialect):
    """DuckDB 1.5."""

    name = "duckdb"

    def expression(self, text: str) -> str:
        """See `Dialect`."""
        (translated,) = sqlglot.transpile(text, read="trino", write="duckdb", normalize_functions="lower")
        return translated

    def signed_bytes(self, blob: str) -> str:
        """See `Dialect`."""
        return f"int8_values({blob})"

    def scores_of(self, columns: Sequence[str], score: Sequence[str], label: Sequence[str]) -> str:
        """See `Dialect`. Nested selects: a lateral join takes sixteen times as long."""
        outer = ", ".join(
            [*(name_of(column) for column in columns), *score, *(f"l.{name} AS {name}" for name in label)]
        )
        middle = ", ".join([*(name_of(column) for column in columns), *(f"s.{name} AS {name}" for name in score)])
        return (
            f"SELECT {outer}\nFROM (\n"
            f"  SELECT {middle}, unnest(s.labels) AS l\n"
            f"  FROM (SELECT {', '.join(columns)}, unnest(scores) AS s FROM predictions)\n)"
        )

    def preamble(self) -> str:
        """See `Dialect`. `./sightline lake sql` has the same function built in, fifty times as fast."""
        return (
            "CREATE OR REPLACE MACRO int8_values(bytes) AS list_transform(range(1, octet_length(bytes) + 1),\n"
            "  lambda i: ((('0x' || hex(bytes[i:i]))::SMALLINT + 128) % 256 - 128)::TINYINT);"
        )


def quoted(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def name_of(column: str) -> str:
    """Return the name of `expression AS name`, or of a plain column."""
    return column.rpartition(" AS ")[2].rpartition(".")[2]


def _first(rows: str, condition: str) -> str:
    return f"element_at(filter({rows}, x -> {condition}), 1)"


def _any_of(row: str, active: Sequence[tuple[str, str]]) -> str:
    each = (f"({row}.model = {quoted(model)} AND {row}.version = {quoted(version)})" for model, version in active)
    return " OR ".join(each) or "false"


DIALECTS: Final[dict[str, Dialect]] = {dialect.name: dialect for dialect in (DuckDB(), Dialect())}
