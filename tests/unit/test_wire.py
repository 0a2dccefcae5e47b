"""schemas/records.py is made from the Avro files: its text, its defaults, and what cannot be made."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from app.stack.schema_records import RECORDS_FILE, stale_records, write_records
from app.systems.registry.avro import SCHEMA_DIR
from schemas import records
from schemas.generation import records_source
from schemas.records import RECORDS

# Fields of a first version that have a default: set only for an upload that a bucket listing revealed.
OPTIONAL_FROM_THE_FIRST = {("ImageTask", "covers_from_ms"), ("ImageTask", "covers_until_ms")}


def _record(*fields: dict[str, Any], name: str = "Toy") -> dict[str, Any]:
    return {"type": "record", "name": name, "namespace": "io.sightline", "doc": "A toy.", "fields": list(fields)}


def test_the_file_is_what_the_schemas_say() -> None:
    assert stale_records() == ""


def test_a_stale_or_missing_file_is_seen_and_written_once(tmp_path: Path) -> None:
    folder = tmp_path / "schemas"
    shutil.copytree(SCHEMA_DIR, folder)
    path = folder / RECORDS_FILE
    for damage in (lambda: path.write_text("class Position: ..."), path.unlink):
        damage()
        assert stale_records(folder)
        assert write_records(folder)
        assert not write_records(folder)
        assert path.read_text() == (SCHEMA_DIR / RECORDS_FILE).read_text()


def test_a_field_edited_by_hand_is_seen(tmp_path: Path) -> None:
    folder = tmp_path / "schemas"
    shutil.copytree(SCHEMA_DIR, folder)
    path = folder / RECORDS_FILE
    path.write_text(path.read_text().replace("    delete_marker: bool", "    delete_marker: int"))
    assert stale_records(folder)


@pytest.mark.parametrize("kind", [kind for kind in vars(records).values() if dataclasses.is_dataclass(kind)])
def test_every_record_is_frozen_and_slotted(kind: Any) -> None:
    assert kind.__dataclass_params__.frozen
    assert kind.__slots__ == tuple(field.name for field in dataclasses.fields(kind))


@pytest.mark.parametrize("name", RECORDS)
def test_fields_of_later_versions_alone_have_the_default_of_the_schema(name: str) -> None:
    versions = sorted(int(path.stem) for path in (SCHEMA_DIR / name).glob("*.avsc"))
    first, newest = (json.loads((SCHEMA_DIR / name / f"{one}.avsc").read_text()) for one in (1, versions[-1]))
    required = {field["name"] for field in first["fields"]}
    for in_python, in_avro in zip(dataclasses.fields(RECORDS[name]), newest["fields"], strict=True):
        if in_python.name in required and (name, in_python.name) not in OPTIONAL_FROM_THE_FIRST:
            assert in_python.default is dataclasses.MISSING
        else:
            avro = in_avro["default"]
            assert in_python.default == (tuple(avro) if isinstance(avro, list) else avro)


def test_text_of_a_schema() -> None:
    inner = _record({"name": "part", "type": "bytes"}, name="Inner")
    first = _record(
        {"name": "at_ms", "type": {"type": "long", "logicalType": "timestamp-millis"}},
        {"name": "hint", "type": ["null", "string"], "default": None, "doc": "Says more."},
    )
    second = _record(
        *first["fields"],
        {"name": "parts", "type": {"type": "array", "items": inner}, "default": []},
        {"name": "last", "type": ["null", "io.sightline.Inner"], "default": None},
        {"name": "unit", "type": "string", "default": 'a "b"'},
        {"name": "share", "type": "double", "default": 0.5},
    )
    text = records_source([("Toy", first), ("Toy", second)])
    assert (
        '''
@dataclass(frozen=True, slots=True)
class Inner:
    """A toy."""

    part: bytes


@dataclass(frozen=True, slots=True)
class Toy:
    """A toy."""

    at_ms: int
    hint: str | None
    """Says more."""
    parts: tuple[Inner, ...] = ()
    last: Inner | None = None
    unit: str = "a \\"b\\""
    share: float = 0.5
'''
        in text
    )
    assert "        Toy,\n" in text and "        Inner,\n" not in text


@pytest.mark.parametrize("kind", [{"type": "map", "values": "int"}, ["null", "int", "string"], "decimal"])
def test_a_type_without_python_form_is_refused_by_its_path(kind: Any) -> None:
    with pytest.raises(ValueError, match=r"Toy\.field: .* has no Python form"):
        records_source([("Toy", _record({"name": "field", "type": kind}))])


def test_a_default_without_python_form_is_refused_by_its_path() -> None:
    later = _record({"name": "field", "type": "int"}, {"name": "more", "type": "int", "default": {"a": 1}})
    with pytest.raises(ValueError, match=r"Toy\.more: the default"):
        records_source([("Toy", _record(later["fields"][0])), ("Toy", later)])
