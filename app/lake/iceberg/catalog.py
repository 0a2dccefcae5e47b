"""Iceberg tables with pyiceberg: the catalog of the settings, the lake's tables in it, and columns from Avro schemas.

All functions block (catalog, S3). Only Kafka Connect appends rows; this module creates tables and adds columns.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NamespaceAlreadyExistsError,
    NoSuchNamespaceError,
    NoSuchTableError,
    RESTError,
    TableAlreadyExistsError,
    ValidationException,
)
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import DayTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DoubleType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestamptzType,
)
from sqlalchemy.exc import SQLAlchemyError

from app.domain.lake import KAFKA_OFFSET, KAFKA_PARTITION, KAFKA_TIMESTAMP, KAFKA_TOPIC, TABLES, LakeTable
from app.domain.lake_columns import table_meaning
from app.errors import ConfigurationError, LakeUnavailable
from app.settings import Settings
from app.systems.registry.avro import newest_schema

_PRIMITIVES: Final[Mapping[str, IcebergType]] = {
    "string": StringType(),
    "int": IntegerType(),
    "long": LongType(),
    "double": DoubleType(),
    "boolean": BooleanType(),
    "bytes": BinaryType(),
}
_COORDINATES: Final = (
    (KAFKA_TOPIC, StringType()),
    (KAFKA_PARTITION, IntegerType()),
    (KAFKA_OFFSET, LongType()),
    (KAFKA_TIMESTAMP, TimestamptzType()),
)
# Limits the metadata files that frequent commits leave behind; `lake expire` removes snapshots.
_PROPERTIES: Final = {
    "format-version": "2",
    "write.format.default": "parquet",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    # A commit of the sink and another commit may collide; each then retries on top of the other.
    "commit.retry.num-retries": "10",
}


# Errors of catalogs (SQL, Glue, REST), store and files. A catalog that does not answer raises an OSError.
_FOREIGN: Final = (
    OSError,
    ValueError,
    pa.ArrowException,
    RESTError,
    NoSuchTableError,
    NoSuchNamespaceError,
    TableAlreadyExistsError,
    SQLAlchemyError,
    BotoCoreError,
    ClientError,
)


@contextmanager
def lake_errors(doing: str) -> Iterator[None]:
    """Translate errors of catalog, store and files to LakeUnavailable. `doing` describes the operation.

    A commit that lost against other commits too often raises it too; the table is then unchanged.
    """
    try:
        yield
    except CommitStateUnknownException as error:
        raise LakeUnavailable(
            f"cannot tell whether this was committed: {doing}: {_line(error)}; `./sightline lake verify` tells what is "
            "there"
        ) from error
    except (CommitFailedException, ValidationException) as error:
        raise LakeUnavailable(
            f"others committed meanwhile, nothing was changed: {doing}: {_line(error)}; try again"
        ) from error
    except _FOREIGN as error:
        raise LakeUnavailable(f"{doing} failed: {type(error).__name__}: {_line(error)}") from error


def _line(error: Exception) -> str:
    """Return the message of an error as one line, without the statement and link that databases append."""
    return " ".join(str(error).split())[:500]


def open_catalog(settings: Settings) -> Catalog:
    """Return the catalog that the settings name. Raises ConfigurationError, LakeUnavailable."""
    lake = settings.lake
    where = sqlite_file(settings) if lake.catalog == "sqlite" else lake.catalog_uri
    with lake_errors(f"opening the {lake.catalog} catalog {where}".rstrip()):
        try:
            return load_catalog("lake", **_catalog_properties(settings))
        except (ValueError, ImportError) as error:
            raise ConfigurationError(f"cannot open the {lake.catalog} catalog {where}: {error}") from error


def sqlite_file(settings: Settings) -> Path:
    """Return the path of the development catalog."""
    if settings.lake.catalog_uri:
        return Path(settings.lake.catalog_uri).resolve()
    return settings.stack.var_dir.resolve() / "stack" / "lake" / "catalog.db"


def _catalog_properties(settings: Settings) -> dict[str, str]:
    lake, s3 = settings.lake, settings.s3
    properties: dict[str, str] = {
        "warehouse": lake.warehouse,
        "s3.region": s3.region,
        "py-io-impl": "pyiceberg.io.pyarrow.PyArrowFileIO",
    }
    if s3.endpoint:
        properties["s3.endpoint"] = s3.endpoint
        properties["s3.force-virtual-addressing"] = "false"
    if s3.access_key:
        properties["s3.access-key-id"] = s3.access_key
        properties["s3.secret-access-key"] = s3.secret_key.reveal()
    match lake.catalog:
        case "sqlite":
            file = sqlite_file(settings)
            file.parent.mkdir(parents=True, exist_ok=True)
            # The name is part of each row in the file, so all users of the file need the same.
            return {**properties, "type": "sql", "uri": f"sqlite:///{file}"}
        case "rest":
            return {**properties, "type": "rest", "uri": lake.catalog_uri}
        case _:
            glue = {"type": "glue", "glue.region": s3.region}
            if lake.catalog_uri:
                glue["glue.endpoint"] = lake.catalog_uri
            if s3.access_key:
                glue["glue.access-key-id"] = s3.access_key
                glue["glue.secret-access-key"] = s3.secret_key.reveal()
            return {**properties, **glue}


def full_name(settings: Settings, table: LakeTable) -> tuple[str, str]:
    """Return namespace and name of a table in the catalog."""
    return settings.lake.namespace, table.name


def load_table(catalog: Catalog, settings: Settings, table: LakeTable) -> Table | None:
    """Return the present state of the table, or None if the catalog does not have it. Raises LakeUnavailable."""
    with lake_errors(f"reading the catalog for {table.name}"):
        try:
            return catalog.load_table(full_name(settings, table))
        except NoSuchTableError:
            return None


def make_namespace(catalog: Catalog, settings: Settings) -> None:
    """Create the namespace of the tables unless it exists. Raises LakeUnavailable."""
    name = settings.lake.namespace
    with lake_errors(f"creating the namespace {name}"), suppress(NamespaceAlreadyExistsError):
        catalog.create_namespace(name)


def newest_snapshot(catalog: Catalog, settings: Settings, table: LakeTable) -> tuple[int, int] | None:
    """Return time (Unix ms) and row count of the newest snapshot; None without one. Raises LakeUnavailable."""
    loaded = load_table(catalog, settings, table)
    if loaded is None:
        raise LakeUnavailable(f"the catalog has no table {table.name}; see docs/lake.md, catalog wiped")
    snapshot = loaded.current_snapshot()
    if snapshot is None or snapshot.summary is None:
        return None
    return snapshot.timestamp_ms, int(snapshot.summary["total-records"] or 0)


def create_tables(catalog: Catalog, settings: Settings) -> tuple[str, ...]:
    """Create missing tables and add the columns of newer schemas. Return a description of each change.

    Columns are only added; `make check` refuses schemas that change more. Raises LakeUnavailable.
    """
    done: list[str] = []
    make_namespace(catalog, settings)
    for row in TABLES:
        wanted = iceberg_schema(row)
        loaded = load_table(catalog, settings, row)
        with lake_errors(f"creating or changing the table {row.name}"):
            if loaded is None:
                with suppress(TableAlreadyExistsError):
                    catalog.create_table(
                        full_name(settings, row), wanted, partition_spec=_by_day(wanted), properties=_PROPERTIES
                    )
                    done.append(f"{row.name} created")
                continue
            before = loaded.schema()
            with loaded.update_schema() as update:
                update.union_by_name(wanted)
            if loaded.schema() != before:
                done.append(f"{row.name} got new columns")
    return tuple(done)


def iceberg_schema(table: LakeTable) -> Schema:
    """Return the columns of the newest schema of the record and the coordinates, all optional, each with its meaning.

    Raises KeyError for a column without a meaning; a test detects that first.
    """
    fields = _Fields()
    columns = fields.columns(json.loads(newest_schema(table.record).text))
    columns += [fields.field(name, kind) for name, kind in _COORDINATES]
    return Schema(*(column.model_copy(update={"doc": table_meaning(table.name, column.name)}) for column in columns))


def _by_day(schema: Schema) -> PartitionSpec:
    source = schema.find_field(KAFKA_TIMESTAMP).field_id
    return PartitionSpec(PartitionField(source, 1000, DayTransform(), f"{KAFKA_TIMESTAMP}_day"))


class _Fields:
    """Counter for field ids of one schema. The catalog assigns new ids; here they only need to be unique."""

    def __init__(self) -> None:
        self._last = 0
        self._records: dict[str, Any] = {}

    def field(self, name: str, kind: IcebergType) -> NestedField:
        return NestedField(self._next(), name, kind, required=False)

    def columns(self, record: Any) -> list[NestedField]:
        """Return the fields of an Avro record."""
        self._records[record["name"]] = record
        self._records[f"{record.get('namespace')}.{record['name']}"] = record
        return [self.field(field["name"], self._kind(field["type"])) for field in record["fields"]]

    def _next(self) -> int:
        self._last += 1
        return self._last

    def _kind(self, node: Any) -> IcebergType:
        if isinstance(node, list):
            return self._kind(next(branch for branch in node if branch != "null"))
        if isinstance(node, str):
            return StructType(*self.columns(self._records[node])) if node in self._records else _PRIMITIVES[node]
        match node["type"]:
            case "record":
                return StructType(*self.columns(node))
            case "array":
                return ListType(self._next(), self._kind(node["items"]), element_required=False)
            case kind if node.get("logicalType") == "timestamp-millis":
                return TimestamptzType()
            case kind:
                return _PRIMITIVES[kind]
