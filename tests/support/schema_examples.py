"""The examples of schemas/examples: `<Record>.<version>.json` for people, `.hex` as it lies on the wire.

JSON as usual, with bytes written as text of the characters 0 to 255, as Avro's own JSON encoding does.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from pathlib import Path
from typing import Any

from app.systems.registry.avro import SCHEMA_DIR, Codec, released_schemas
from schemas.records import RECORDS, Record

EXAMPLES_DIR = SCHEMA_DIR / "examples"


def example_record(name: str, text: str) -> Record:
    """Return the record that `text` describes; fields that it lacks are an error."""
    return typing.cast("Record", _built(RECORDS[name], json.loads(text)))


def newest_example(name: str) -> Record:
    """Return the example of the newest version of a record."""
    newest = max(version.version for version in released_schemas() if version.record == name)
    return example_record(name, (EXAMPLES_DIR / f"{name}.{newest}.json").read_text(encoding="utf-8"))


def example_paths() -> list[Path]:
    """Return every JSON example."""
    return sorted(EXAMPLES_DIR.glob("*.json"))


def _built(kind: Any, value: Any) -> Any:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        unknown = set(value) - set(hints)
        if unknown:
            raise ValueError(f"unknown fields {sorted(unknown)}")
        make = typing.cast("typing.Callable[..., Any]", kind)
        return make(**{field.name: _built(hints[field.name], value[field.name]) for field in dataclasses.fields(kind)})
    if isinstance(kind, types.UnionType):
        inner = next(part for part in typing.get_args(kind) if part is not type(None))
        return None if value is None else _built(inner, value)
    if typing.get_origin(kind) is tuple:
        return tuple(_built(typing.get_args(kind)[0], part) for part in value)
    if kind is bytes:
        return value.encode("latin-1")
    if kind is float:
        return float(value)
    if not isinstance(value, kind):
        raise TypeError(f"{value!r} is not a {kind}")
    return value


def write_golden_bytes() -> list[str]:
    """Write the `.hex` of every newest example that has none; a golden file that exists is never touched."""
    written = []
    for path in example_paths():
        golden = path.with_suffix(".hex")
        if not golden.exists():
            text = Codec().encode(example_record(path.name.split(".")[0], path.read_text(encoding="utf-8"))).hex()
            golden.write_text("".join(f"{text[at : at + 120]}\n" for at in range(0, len(text), 120)))
            written.append(golden.name)
    return written


if __name__ == "__main__":
    print(*write_golden_bytes() or ["nothing to write"])
