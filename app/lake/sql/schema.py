"""Columns of the lake's tables from their Avro schemas: names and SQL types."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from app.domain.lake import KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, KAFKA_TOPIC, LakeTable
from app.systems.registry.avro import newest_schema

_PRIMITIVES: Final = {
    "string": "VARCHAR",
    "int": "INTEGER",
    "long": "BIGINT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "bytes": "BLOB",
}
_TIME: Final = "TIMESTAMP WITH TIME ZONE"


@dataclass(frozen=True, slots=True)
class Column:
    """One column; `kind` is its type in DuckDB's notation, without quotes around names."""

    name: str
    kind: str


def table_columns(table: LakeTable) -> tuple[Column, ...]:
    """Return the columns of the newest schema of the table's record, and the coordinates."""
    kinds = _Kinds()
    fields = json.loads(newest_schema(table.record).text)["fields"]
    columns = [Column(field["name"], kinds.of(field["type"])) for field in fields]
    places = (
        (KAFKA_TOPIC, "VARCHAR"),
        (KAFKA_PARTITION, "INTEGER"),
        (KAFKA_OFFSET, "BIGINT"),
        (KAFKA_TIMESTAMP, _TIME),
    )
    return (*columns, *(Column(name, kind) for name, kind in places))


class _Kinds:
    def __init__(self) -> None:
        self._records: dict[str, str] = {}

    def of(self, node: Any) -> str:
        if isinstance(node, list):
            return self.of(next(branch for branch in node if branch != "null"))
        if isinstance(node, str):
            return _PRIMITIVES[node] if node in _PRIMITIVES else self._records[node.rpartition(".")[2]]
        match node["type"]:
            case "record":
                inner = ", ".join(f"{field['name']} {self.of(field['type'])}" for field in node["fields"])
                self._records[node["name"]] = f"STRUCT({inner})"
                return self._records[node["name"]]
            case "array":
                return f"{self.of(node['items'])}[]"
            case kind:
                return _TIME if node.get("logicalType") == "timestamp-millis" else _PRIMITIVES[kind]
