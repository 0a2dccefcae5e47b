"""Records on the wire: Avro (fastavro) in the Confluent framing: byte 0, schema id as 4 bytes big-endian, Avro body.

Ids are pinned in schemas/ids.lock and compared with the registry at start-up only.
"""

from __future__ import annotations

import dataclasses
import io
import json
import operator
import struct
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import fastavro

from app.errors import ConfigurationError, Poison
from schemas.records import RECORDS, Record

SCHEMA_DIR = Path(__file__).resolve().parents[3] / "schemas"
_HEADER = struct.Struct(">bI")
_R = typing.TypeVar("_R")


@dataclasses.dataclass(frozen=True, slots=True)
class SchemaVersion:
    """One released schema: record name, version, pinned registry id and its text as registered."""

    record: str
    version: int
    schema_id: int
    text: str


def released_schemas(folder: Path = SCHEMA_DIR) -> tuple[SchemaVersion, ...]:
    """Return all schemas of `ids.lock` in its order.

    The lock has one line each: `<id> <record>/<version>`; `#` starts a comment. Raises ConfigurationError for a line
    that cannot be read or names a missing file.
    """
    versions = []
    for line in (folder / "ids.lock").read_text().splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            schema_id, (record, version) = int(words[0]), words[1].split("/")
            text = (folder / record / f"{version}.avsc").read_text()
        except (ValueError, IndexError, OSError) as error:
            raise ConfigurationError(f"schemas/ids.lock: cannot read the line {line!r}: {error}") from error
        versions.append(SchemaVersion(record, int(version), schema_id, text))
    return tuple(versions)


def newest_schema(record: str, folder: Path = SCHEMA_DIR) -> SchemaVersion:
    """Return the newest released schema of a record. Raises ValueError if it has none."""
    return max(
        (schema for schema in released_schemas(folder) if schema.record == record), key=lambda schema: schema.version
    )


class Codec:
    """Codec for the records of schemas/. Pure computation; safe to share between tasks."""

    def __init__(self, schemas: tuple[SchemaVersion, ...] | None = None) -> None:
        schemas = released_schemas() if schemas is None else schemas
        self._readers: dict[int, tuple[str, Any]] = {}
        self._writers: dict[str, tuple[bytes, Any]] = {}
        newest: dict[str, SchemaVersion] = {}
        for schema in schemas:
            self._readers[schema.schema_id] = (schema.record, _parse(schema.text))
            if schema.record not in newest or newest[schema.record].version < schema.version:
                newest[schema.record] = schema
        for record, schema in newest.items():
            self._writers[record] = (_HEADER.pack(0, schema.schema_id), self._readers[schema.schema_id][1])
        self._to_wire = {name: _to_wire(cls) for name, cls in RECORDS.items()}
        self._from_wire = {name: _from_wire(cls) for name, cls in RECORDS.items()}

    def encode(self, record: Record) -> bytes:
        """Return the framed bytes of `record` in the newest version of its schema."""
        name = type(record).__name__
        header, schema = self._writers[name]
        buffer = io.BytesIO()
        buffer.write(header)
        fastavro.schemaless_writer(buffer, schema, self._to_wire[name](record))
        return buffer.getvalue()

    def decode(self, value: bytes | None) -> Record:
        """Return the record in `value`; fields that its version lacks take their defaults.

        Raises Poison(`not_avro` | `unknown_schema_id` | `undecodable`).
        """
        name, body = self._body(value, as_newest=True)
        try:
            return typing.cast("Record", self._from_wire[name](body))
        except (ValueError, TypeError, KeyError) as error:
            raise Poison("undecodable", f"not a {name}: {type(error).__name__}: {error}") from error

    def fields(self, value: bytes | None) -> tuple[str, dict[str, Any]]:
        """Return the record's name and its fields as written, without fields of later versions.

        Times are Unix milliseconds. Raises as `decode`.
        """
        return self._body(value, as_newest=False)

    def _body(self, value: bytes | None, *, as_newest: bool) -> tuple[str, Any]:
        if value is None or len(value) < _HEADER.size or value[0] != 0:
            raise Poison("not_avro", "no Confluent header (byte 0 and a 4-byte schema id)")
        schema_id = _HEADER.unpack_from(value)[1]
        if schema_id not in self._readers:
            raise Poison("unknown_schema_id", f"schema id {schema_id} is not in schemas/ids.lock")
        name, written = self._readers[schema_id]
        buffer = io.BytesIO(value)
        buffer.seek(_HEADER.size)
        try:
            body = fastavro.schemaless_reader(buffer, written, self._writers[name][1] if as_newest else None)
        except (ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError, struct.error) as error:
            raise Poison("undecodable", f"not a {name}: {type(error).__name__}: {error}") from error
        if buffer.read(1):
            raise Poison("undecodable", f"bytes left over after a {name}")
        return name, body

    def decode_as(self, value: bytes | None, record: type[_R]) -> _R:
        """Return the record in `value`, which must be a `record`; else Poison(`unexpected_record`)."""
        decoded = self.decode(value)
        if not isinstance(decoded, record):
            raise Poison("unexpected_record", f"a {type(decoded).__name__} where a {record.__name__} belongs")
        return decoded


def _parse(text: str) -> Any:
    # The dataclasses store times as integers; logical types are for readers such as Connect and are dropped here.
    def plain(node: Any) -> Any:
        if isinstance(node, Mapping):
            return {key: plain(value) for key, value in node.items() if key != "logicalType"}
        return [plain(child) for child in node] if isinstance(node, list) else node

    return fastavro.parse_schema(plain(json.loads(text)))


def _to_wire(kind: Any) -> Callable[[Any], Any]:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        fields = [(field.name, _to_wire(hints[field.name])) for field in dataclasses.fields(kind)]
        return lambda value: {name: convert(getattr(value, name)) for name, convert in fields}
    if isinstance(kind, types.UnionType):
        inner = _to_wire(next(part for part in typing.get_args(kind) if part is not type(None)))
        return lambda value: None if value is None else inner(value)
    if typing.get_origin(kind) is tuple:
        each = _to_wire(typing.get_args(kind)[0])
        return lambda value: [each(part) for part in value]
    return lambda value: value


def _from_wire(kind: Any) -> Callable[[Any], Any]:
    if dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind)
        converters = [(field.name, _from_wire(hints[field.name])) for field in dataclasses.fields(kind)]
        nested = [(name, convert) for name, convert in converters if convert is not _as_it_is]
        make = typing.cast("Callable[..., Any]", kind)
        # Arguments by position take half the time of `make(**value)`. With a single name, itemgetter returns no tuple.
        names = [name for name, _ in converters]
        fields = operator.itemgetter(*names) if len(names) > 1 else lambda value: (value[names[0]],)

        def build(value: Any) -> Any:
            # The value was just read and has no other owner, so it is changed in place.
            for name, convert in nested:
                value[name] = convert(value[name])
            return make(*fields(value))

        return build
    if isinstance(kind, types.UnionType):
        inner = _from_wire(next(part for part in typing.get_args(kind) if part is not type(None)))
        if inner is _as_it_is:
            return _as_it_is
        return lambda value: None if value is None else inner(value)
    if typing.get_origin(kind) is tuple:
        each = _from_wire(typing.get_args(kind)[0])
        if each is _as_it_is:
            return tuple
        return lambda value: tuple(map(each, value))
    return _as_it_is


def _as_it_is(value: Any) -> Any:
    return value
