"""Check that schemas only grow: bytes of every earlier version stay readable, and so do the lake's columns.

`schemas/shapes.lock` contains the fields of each released schema, so an edited released file is reported by the name of
the field, and not only by unreadable bytes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from app.domain.lake import COORDINATES, TABLES
from app.systems.registry.avro import SCHEMA_DIR, SchemaVersion, released_schemas
from schemas.evolution import breaks, edited, shape

SHAPES_FILE: Final = "shapes.lock"
_HEAD: Final = (
    "# The fields of each released schema. Released lines never change; `make schema-ids` adds those of new versions.\n"
)


def schema_complaints(folder: Path = SCHEMA_DIR) -> tuple[str, ...]:
    """Return a sentence for each change that is not additive, with record, version and field."""
    complaints: list[str] = []
    shapes = _shapes(folder)
    earlier: dict[str, list[SchemaVersion]] = {}
    for schema in released_schemas(folder):
        name = f"{schema.record}/{schema.version}"
        parsed = json.loads(schema.text)
        if name not in shapes:
            complaints.append(f"{name}: not in {SHAPES_FILE}; run `make schema-ids`")
        complaints += [
            f"{name}: {complaint}: a released schema is never edited; put the change into a new version"
            for complaint in edited(shapes.get(name, shape(parsed)), shape(parsed))
        ]
        for older in earlier.get(schema.record, []):
            complaints += [
                f"{name} after {schema.record}/{older.version}: {complaint.removeprefix('root.')}"
                for complaint in breaks(json.loads(older.text), parsed)
            ]
        earlier.setdefault(schema.record, []).append(schema)
        complaints += _reserved(schema.record, name, parsed)
    complaints += [f"{name}: in no line of ids.lock; run `make schema-ids`" for name in _unlisted(folder)]
    return tuple(dict.fromkeys(complaints))


def write_shapes(folder: Path = SCHEMA_DIR) -> int:
    """Add the shapes of schemas that are not in shapes.lock yet. Return their number."""
    shapes = _shapes(folder)
    new = [schema for schema in released_schemas(folder) if f"{schema.record}/{schema.version}" not in shapes]
    path = folder / SHAPES_FILE
    if not path.exists():
        path.write_text(_HEAD, encoding="utf-8")
    with path.open("a", encoding="utf-8") as lock:
        for schema in new:
            for line in shape(json.loads(schema.text)):
                lock.write(f"{schema.record}/{schema.version} {line}\n")
    return len(new)


def _shapes(folder: Path) -> dict[str, tuple[str, ...]]:
    path = folder / SHAPES_FILE
    shapes: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        if line and not line.startswith("#"):
            name, rest = line.split(" ", 1)
            shapes.setdefault(name, []).append(rest)
    return {name: tuple(lines) for name, lines in shapes.items()}


def _reserved(record: str, name: str, schema: Any) -> list[str]:
    """Refuse fields with the names of the lake's own columns."""
    if record not in {table.record for table in TABLES}:
        return []
    return [
        f"{name}: {field['name']}: a column of the lake has that name"
        for field in schema["fields"]
        if field["name"] in COORDINATES
    ]


def _unlisted(folder: Path) -> list[str]:
    listed = {(schema.record, schema.version) for schema in released_schemas(folder)}
    files = sorted((path.parent.name, int(path.stem)) for path in folder.glob("*/*.avsc"))
    return [f"{record}/{version}" for record, version in files if (record, version) not in listed]
