"""What DuckDB and Trino (Athena) write differently in the lake's views. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

# Only a scored upload has scores in force: one that cannot be read any more carries none.
_SCORED: Final = "predictions.outcome = 'scored'"


class Dialect(Protocol):
    """The expressions that differ. Arguments are SQL, values are given as text that is quoted here."""

    name: str

    def first_with(self, rows: str, field: str, value: str) -> str:
        """Return the first row of an array of rows whose field has a value, or null."""
        ...

    def last_said(self, model: str, version: str) -> str:
        """Return the row of a model version in predictions.scores; where a scored upload lacks it, in `previous`."""
        ...

    def in_force(self, active: Sequence[tuple[str, str]]) -> str:
        """Return the rows of all active models and versions, each as `last_said` finds it."""
        ...

    def highest(self, labels: str) -> str:
        """Return a row of `value` and `label`: the label with the highest score of an array of labels."""
        ...

    def signed_bytes(self, blob: str) -> str:
        """Return the bytes of a blob as an array of whole numbers from -128 to 127."""
        ...

    def scores_of(self, columns: Sequence[str], score: Sequence[str], label: Sequence[str]) -> str:
        """Return a query: a row for each label of each element of predictions.scores.

        `columns` are taken from predictions, `score` and `label` from the elements of the two arrays.
        """
        ...

    def preamble(self) -> str:
        """Return what has to be defined before the views."""
        ...


class DuckDB:
    """DuckDB 1.5."""

    name = "duckdb"

    def first_with(self, rows: str, field: str, value: str) -> str:
        """See `Dialect`."""
        return f"list_filter({rows}, lambda x: x.{field} = {quoted(value)})[1]"

    def last_said(self, model: str, version: str) -> str:
        """See `Dialect`."""
        one = _any_of("x", [(model, version)])
        return (
            f"coalesce(list_filter(predictions.scores, lambda x: {one})[1], "
            f"list_filter(predictions.previous, lambda x: {_SCORED} AND {one})[1])"
        )

    def in_force(self, active: Sequence[tuple[str, str]]) -> str:
        """See `Dialect`."""
        told = "list_transform(predictions.scores, lambda y: concat(y.model, '@', y.version))"
        new = f"NOT list_contains({told}, concat(x.model, '@', x.version))"
        return (
            f"list_concat(list_filter(predictions.scores, lambda x: {_any_of('x', active)}), "
            f"list_filter(predictions.previous, lambda x: {_SCORED} AND {new} AND ({_any_of('x', active)})))"
        )

    def highest(self, labels: str) -> str:
        """See `Dialect`."""
        return f"list_max(list_transform({labels}, lambda x: struct_pack(value := x.value, label := x.label)))"

    def signed_bytes(self, blob: str) -> str:
        """See `Dialect`."""
        return f"int8_values({blob})"

    def scores_of(self, columns: Sequence[str], score: Sequence[str], label: Sequence[str]) -> str:
        """Nested selects: a lateral join takes sixteen times as long."""
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


class Trino:
    """Trino, and Athena's engine version 3."""

    name = "trino"

    def first_with(self, rows: str, field: str, value: str) -> str:
        """See `Dialect`."""
        return f"element_at(filter({rows}, x -> x.{field} = {quoted(value)}), 1)"

    def last_said(self, model: str, version: str) -> str:
        """See `Dialect`."""
        one = _any_of("x", [(model, version)])
        return (
            f"coalesce(element_at(filter(predictions.scores, x -> {one}), 1), "
            f"element_at(filter(predictions.previous, x -> {_SCORED} AND {one}), 1))"
        )

    def in_force(self, active: Sequence[tuple[str, str]]) -> str:
        """See `Dialect`."""
        new = "none_match(predictions.scores, y -> y.model = x.model AND y.version = x.version)"
        return (
            f"concat(filter(predictions.scores, x -> {_any_of('x', active)}), "
            f"filter(predictions.previous, x -> {_SCORED} AND {new} AND ({_any_of('x', active)})))"
        )

    def highest(self, labels: str) -> str:
        """See `Dialect`."""
        row = "CAST(ROW(x.value, x.label) AS ROW(value double, label varchar))"
        return f"array_max(transform({labels}, x -> {row}))"

    def signed_bytes(self, blob: str) -> str:
        """See `Dialect`."""
        byte = f"from_base(to_hex(substr({blob}, i, 1)), 16)"
        return f"transform(sequence(1, length({blob})), i -> CAST(({byte} + 128) % 256 - 128 AS tinyint))"

    def scores_of(self, columns: Sequence[str], score: Sequence[str], label: Sequence[str]) -> str:
        """See `Dialect`."""
        chosen = [*columns, *(f"s.{name}" for name in score), *(f"l.{name}" for name in label)]
        return (
            f"SELECT {', '.join(chosen)}\nFROM predictions\n"
            "CROSS JOIN UNNEST(scores) AS s (model, version, preprocessing, labels, regions, cached, skipped)\n"
            "CROSS JOIN UNNEST(s.labels) AS l (label, value)"
        )

    def preamble(self) -> str:
        """See `Dialect`."""
        return ""


def quoted(text: str) -> str:
    """Return a text as SQL writes it."""
    return "'" + text.replace("'", "''") + "'"


def name_of(column: str) -> str:
    """Return the name of `expression AS name`, or of a plain column."""
    return column.rpartition(" AS ")[2].rpartition(".")[2]


def _any_of(row: str, active: Sequence[tuple[str, str]]) -> str:
    each = (f"({row}.model = {quoted(model)} AND {row}.version = {quoted(version)})" for model, version in active)
    return " OR ".join(each) or "false"


DIALECTS: dict[str, Dialect] = {"duckdb": DuckDB(), "trino": Trino()}
