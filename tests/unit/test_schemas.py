"""The wire: records equal their schemas, every released version stays readable, new versions only add."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
import shutil
import types
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.stack.schema_check import SHAPES_FILE, schema_complaints, write_shapes
from app.systems.registry.avro import SCHEMA_DIR, Codec, released_schemas
from schemas.evolution import breaks
from schemas.records import RECORDS
from tests.support.schema_examples import EXAMPLES_DIR, example_paths, example_record

_PRIMITIVES = {"string": str, "int": int, "long": int, "double": float, "boolean": bool, "bytes": bytes}


def _text_of(record: str, version: int) -> Any:
    return json.loads((SCHEMA_DIR / record / f"{version}.avsc").read_text())


def _versions(record: str) -> list[int]:
    return sorted(int(path.stem) for path in (SCHEMA_DIR / record).glob("*.avsc"))


def _differences(node: Any, kind: Any, names: dict[str, Any], path: str) -> list[str]:
    """Return where the schema `node` is not what the annotation `kind` says."""
    if isinstance(node, str):
        node = names.get(node, node)
    if isinstance(kind, types.UnionType):
        if not (isinstance(node, list) and len(node) == 2 and node[0] == "null"):
            return [f"{path}: optional in Python, {node} in Avro"]
        inner = next(part for part in typing.get_args(kind) if part is not type(None))
        return _differences(node[1], inner, names, path)
    if typing.get_origin(kind) is tuple:
        if not (isinstance(node, dict) and node["type"] == "array"):
            return [f"{path}: a tuple in Python, {node} in Avro"]
        return _differences(node["items"], typing.get_args(kind)[0], names, f"{path}[]")
    if dataclasses.is_dataclass(kind):
        if not (isinstance(node, dict) and node["type"] == "record" and node["name"] == getattr(kind, "__name__", "")):
            return [f"{path}: {kind} in Python, {node} in Avro"]
        names[node["name"]] = names[f"{node.get('namespace')}.{node['name']}"] = node
        in_avro = [field["name"] for field in node["fields"]]
        in_python = [field.name for field in dataclasses.fields(kind)]
        if in_avro != in_python:
            return [f"{path}: fields {in_avro} in Avro, {in_python} in Python"]
        hints = typing.get_type_hints(kind)
        return [
            found
            for field in node["fields"]
            for found in _differences(field["type"], hints[field["name"]], names, f"{path}.{field['name']}")
        ]
    primitive = node["type"] if isinstance(node, dict) else node
    return [] if _PRIMITIVES.get(primitive) is kind else [f"{path}: {kind} in Python, {node} in Avro"]


@pytest.mark.parametrize("record", RECORDS)
def test_record_equals_its_newest_schema(record: str) -> None:
    assert _differences(_text_of(record, _versions(record)[-1]), RECORDS[record], {}, record) == []


def test_comparison_of_record_and_schema_rejects() -> None:
    changed = _text_of("ImageTask", 1)
    changed["fields"][0]["type"] = "long"
    assert _differences(changed, RECORDS["ImageTask"], {}, "ImageTask")
    changed = _text_of("ImageTask", 1)
    changed["fields"].reverse()
    assert _differences(changed, RECORDS["ImageTask"], {}, "ImageTask")


def test_the_lock_lists_every_schema_once_and_in_order() -> None:
    locked = released_schemas()
    assert [schema.schema_id for schema in locked] == list(range(1, len(locked) + 1))
    on_disk = {(path.parent.name, int(path.stem)) for path in SCHEMA_DIR.glob("*/*.avsc")}
    assert {(schema.record, schema.version) for schema in locked} == on_disk
    assert {schema.record for schema in locked} == set(RECORDS)
    for record in RECORDS:
        assert _versions(record) == list(range(1, len(_versions(record)) + 1))


@pytest.mark.parametrize("schema", released_schemas(), ids=lambda schema: f"{schema.record}.{schema.version}")
def test_every_released_version_stays_readable(schema: Any) -> None:
    """The golden bytes of a version are decoded by the newest code, and hold the id that the lock pins."""
    golden = bytes.fromhex((EXAMPLES_DIR / f"{schema.record}.{schema.version}.hex").read_text())
    assert golden[:5] == bytes(1) + schema.schema_id.to_bytes(4, "big")
    record = Codec().decode(golden)
    assert type(record).__name__ == schema.record
    if schema.version == _versions(schema.record)[-1]:
        example = example_record(
            schema.record, (EXAMPLES_DIR / f"{schema.record}.{schema.version}.json").read_text(encoding="utf-8")
        )
        assert record == example
        assert Codec().encode(example) == golden


def test_examples_belong_to_released_versions() -> None:
    released = {f"{schema.record}.{schema.version}" for schema in released_schemas()}
    assert {path.stem for path in example_paths()} == released


@pytest.mark.parametrize("path", example_paths(), ids=lambda path: path.stem)
def test_examples_stay_under_the_limit_of_a_record(path: Path) -> None:
    assert len(bytes.fromhex(path.with_suffix(".hex").read_text())) < 16 * 1024


@pytest.mark.parametrize("record", RECORDS)
def test_versions_only_add(record: str) -> None:
    versions = _versions(record)
    for earlier, later in itertools.pairwise(versions):
        assert breaks(_text_of(record, earlier), _text_of(record, later)) == []


def _field(schema: Any, name: str) -> Any:
    return next(field for field in schema["fields"] if field["name"] == name)


def _remove(schema: Any) -> None:
    schema["fields"].remove(_field(schema, "reason"))


def _rename(schema: Any) -> None:
    _field(schema, "reason")["name"] = "cause"


def _move(schema: Any) -> None:
    schema["fields"].append(schema["fields"].pop(0))


def _retype(schema: Any) -> None:
    _field(schema, "width")["type"] = "string"


def _require(schema: Any) -> None:
    _field(schema, "etag")["type"] = "string"


def _add_without_default(schema: Any) -> None:
    schema["fields"].append({"name": "colour", "type": "string"})


def _change_default(schema: Any) -> None:
    _field(schema, "etag")["type"] = ["null", "string"]
    _field(schema, "etag")["default"] = "none"


def _change_inside(schema: Any) -> None:
    _field(schema, "timings")["type"]["fields"][0]["type"] = "double"


def _change_in_array(schema: Any) -> None:
    _field(schema, "scores")["type"]["items"]["fields"].pop()


def _rename_record(schema: Any) -> None:
    schema["name"] = "Prediction"


@pytest.mark.parametrize(
    "change",
    [
        _remove,
        _rename,
        _move,
        _retype,
        _require,
        _add_without_default,
        _change_default,
        _change_inside,
        _change_in_array,
        _rename_record,
    ],
)
def test_the_checker_rejects(change: Callable[[Any], None]) -> None:
    old = _text_of("ImagePrediction", 1)
    new = copy.deepcopy(old)
    change(new)
    assert breaks(old, new)


def test_the_checker_accepts_additions() -> None:
    old = _text_of("ImagePrediction", 1)
    new = copy.deepcopy(old)
    new["doc"] = "Another sentence."
    new["fields"].append({"name": "colour", "type": "string", "default": ""})
    _field(new, "timings")["type"]["fields"].append({"name": "decide_ms", "type": "long", "default": 0})
    assert breaks(old, new) == []


def test_the_schemas_of_this_release_only_grow() -> None:
    assert schema_complaints() == ()


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    folder = tmp_path / "schemas"
    shutil.copytree(SCHEMA_DIR, folder)
    return folder


def _change(folder: Path, record: str, version: int, change: Callable[[Any], None]) -> None:
    path = folder / record / f"{version}.avsc"
    schema = json.loads(path.read_text())
    change(schema)
    path.write_text(json.dumps(schema))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_remove, "ImagePrediction/3: reason: removed or renamed"),
        (_rename, "ImagePrediction/3: cause: added"),
        (_retype, "ImagePrediction/3: width: int became string"),
        (_require, "ImagePrediction/3: etag: string? became string"),
        (_change_inside, "ImagePrediction/3: timings.queued_ms: long became double"),
        (_change_in_array, "ImagePrediction/3: scores[].skipped: removed or renamed"),
        (_move, "ImagePrediction/3: upload_id: moved"),
    ],
)
def test_a_released_schema_that_was_edited_is_told_by_its_field(
    copied: Path, change: Callable[[Any], None], told: str
) -> None:
    _change(copied, "ImagePrediction", 3, change)
    assert any(line.startswith(told) for line in schema_complaints(copied)), schema_complaints(copied)


def test_a_new_version_that_takes_away_is_told_by_its_field(copied: Path) -> None:
    """The newest record of one version alone: nothing else would notice."""
    shutil.copy(copied / "ModerationDecision" / "2.avsc", copied / "ModerationDecision" / "3.avsc")
    _change(copied, "ModerationDecision", 3, lambda schema: _field(schema, "moderator").update(name="person"))
    assert schema_complaints(copied) == ("ModerationDecision/3: in no line of ids.lock; run `make schema-ids`",)
    with (copied / "ids.lock").open("a") as lock:
        lock.write("18 ModerationDecision/3\n")
    assert write_shapes(copied) == 1
    assert schema_complaints(copied) == (
        "ModerationDecision/3 after ModerationDecision/1: moderator: removed, renamed or moved",
        "ModerationDecision/3 after ModerationDecision/2: moderator: removed, renamed or moved",
    )


def test_a_field_that_the_lake_would_hide_is_refused(copied: Path) -> None:
    shutil.copy(copied / "ModerationDecision" / "2.avsc", copied / "ModerationDecision" / "3.avsc")
    column = {"name": "kafka_offset", "type": "long", "default": 0}
    _change(copied, "ModerationDecision", 3, lambda schema: schema["fields"].append(column))
    with (copied / "ids.lock").open("a") as lock:
        lock.write("18 ModerationDecision/3\n")
    write_shapes(copied)
    assert schema_complaints(copied) == ("ModerationDecision/3: kafka_offset: a column of the lake has that name",)


def test_shapes_are_written_once(copied: Path) -> None:
    before = (copied / SHAPES_FILE).read_text()
    assert write_shapes(copied) == 0
    assert (copied / SHAPES_FILE).read_text() == before
