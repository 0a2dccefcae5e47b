"""Iceberg tables by pyiceberg: the catalog that the settings name, our tables in it, and what Avro makes of columns.

Everything here blocks (catalog, S3). Kafka Connect alone appends rows; we create tables and add columns.
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
# Kept metadata files bound what a commit every few minutes leaves behind; snapshots end by `lake expire`.
_PROPERTIES: Final = {
    "format-version": "2",
    "write.format.default": "parquet",
    "write.parquet.compression-codec": "zstd",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    # A commit of the sink and one of ours may meet; each then takes the other's as its base.
    "commit.retry.num-retries": "10",
}


# Of catalogs (SQL, Glue, REST), the store and files. A catalog that answers nothing is an OSError.
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
    """Make foreign errors of catalog, store and files LakeUnavailable; `doing` says what was tried.

    A commit that lost against others too often is one too: nothing of it is in the table.
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
    """Return what an error says as one line; databases append their statement and a link."""
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
    """Return where the development catalog lies."""
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
            # The name is the same for all who share the file: it is part of each row there.
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
    """Return the table as it is at this moment, or None where the catalog does not know it. Raises LakeUnavailable."""
    with lake_errors(f"reading the catalog for {table.name}"):
        try:
            return catalog.load_table(full_name(settings, table))
        except NoSuchTableError:
            return None


def make_namespace(catalog: Catalog, settings: Settings) -> None:
    """Create the namespace of the tables where it is absent. Raises LakeUnavailable."""
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
    """Create each table that is absent and add the columns that newer schemas bring; return what was done, in words.

    A column is only ever added: schemas that do more are refused by `make check`. Raises LakeUnavailable.
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
    """Return the columns: those of the newest schema of the record and where the row came from, all optional.

    Each has its meaning. Raises KeyError for a column without one, which a test of the repository finds first.
    """
    fields = _Fields()
    columns = fields.columns(json.loads(newest_schema(table.record).text))
    columns += [fields.field(name, kind) for name, kind in _COORDINATES]
    return Schema(*(column.model_copy(update={"doc": table_meaning(table.name, column.name)}) for column in columns))


def _by_day(schema: Schema) -> PartitionSpec:
    source = schema.find_field(KAFKA_TIMESTAMP).field_id
    return PartitionSpec(PartitionField(source, 1000, DayTransform(), f"{KAFKA_TIMESTAMP}_day"))


class _Fields:
    """Numbers the fields of one schema. The catalog numbers them again; here they only have to differ."""

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
