"""SQL on the lake's tables with DuckDB, in this process and in memory.

DuckDB reads the Iceberg metadata and the Parquet files itself. It prunes files by partition and by the bounds of their
columns, and reads only the columns of the query. Extensions are loaded from installed packages and never downloaded.
All functions block.
"""

from __future__ import annotations

import importlib.util
import json
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from app.domain.lake import LakeTable
from app.errors import ConfigurationError, LakeUnavailable, QueryRefused
from app.lake.iceberg.scans import TableScan, empty_rows
from app.settings import LakeSettings, S3Settings
from app.systems.s3.sigv4 import AccessKeys

_EXTENSIONS: Final = ("httpfs", "avro", "iceberg")
# Rows per batch from DuckDB: 2,048 predictions of about 2 KB are 4 MB.
_BATCH_ROWS: Final = 2_048
_QUERIES: Final = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
# DuckDB spills to disk what does not fit into memory. Beyond this the query fails instead of filling the disk.
_SPILL: Final = "20GB"
_S3_SCHEMES: Final = ("s3://", "s3a://", "s3n://")


@dataclass(frozen=True, slots=True)
class ResultColumn:
    """One column of an answer: name and type in DuckDB's notation."""

    name: str
    kind: str


class Answer:
    """Result of one query. Its rows can be read once, as Python values or into a Parquet file."""

    def __init__(self, columns: tuple[ResultColumn, ...], reader: Any) -> None:
        self.columns = columns
        self._reader = reader

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows; times carry UTC. Raises QueryRefused, LakeUnavailable."""
        with _errors():
            for batch in self._reader:
                # By position, because column names of an answer need not be unique.
                yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def write_parquet(self, path: Path) -> int:
        """Write all rows to `path` and return their number. Raises as `rows`, OSError for the file."""
        count = 0
        with pq.ParquetWriter(path, self._reader.schema, compression="zstd") as writer, _errors():
            for batch in self._reader:
                writer.write_batch(batch)
                count += batch.num_rows
        return count


class Duck:
    """In-memory database with the lake's tables. Use with `with`. Not thread-safe."""

    def __init__(self, lake: LakeSettings, s3: S3Settings) -> None:
        self._lake, self._s3 = lake, s3
        self._folder = tempfile.TemporaryDirectory(prefix="sightline-sql-")
        config: dict[str, Any] = {
            "memory_limit": f"{lake.sql_memory_bytes}B",
            "temp_directory": self._folder.name,
            "max_temp_directory_size": _SPILL,
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        if lake.sql_threads:
            config["threads"] = lake.sql_threads
        self._connection = duckdb.connect(":memory:", config=config)
        self._connection.execute("SET TimeZone = 'UTC'")
        self._connection.execute("SET enable_progress_bar = false")
        # The library's types do not allow the value "arrow".
        arrow: Any = "arrow"
        self._connection.create_function("int8_values", _int8_values, ["BLOB"], "TINYINT[]", type=arrow)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database, which deletes it."""
        self._connection.close()
        self._folder.cleanup()

    def load_extensions(self) -> None:
        """Load the extensions for Iceberg and S3 from installed packages. Raises ConfigurationError."""
        for name in _EXTENSIONS:
            with _errors():
                self._connection.execute(f"LOAD {_quoted(str(_extension(name)))}")

    def use_keys(self, keys: AccessKeys) -> None:
        """Use these keys for s3:// at the endpoint of the settings."""
        parts = ["TYPE s3", f"KEY_ID {_quoted(keys.access_key)}", f"SECRET {_quoted(keys.secret_key)}"]
        parts.append(f"REGION {_quoted(self._s3.region)}")
        if keys.token:
            parts.append(f"SESSION_TOKEN {_quoted(keys.token)}")
        if self._s3.endpoint:
            address = urlsplit(self._s3.endpoint)
            secure = "true" if address.scheme == "https" else "false"
            parts += [f"ENDPOINT {_quoted(address.netloc)}", "URL_STYLE 'path'", f"USE_SSL {secure}"]
        with _errors():
            self._connection.execute(f"CREATE OR REPLACE SECRET lake ({', '.join(parts)})")

    def add_rows(self, table: LakeTable, rows: Any = None) -> None:
        """Define the table as these Arrow rows, or as empty, with the columns of its newest schema."""
        self._connection.register(f"rows_{table.name}", empty_rows(table) if rows is None else rows)
        self.define(f'CREATE OR REPLACE VIEW "{table.name}" AS SELECT * FROM "rows_{table.name}"')

    def add_table(self, scan: TableScan) -> None:
        """Define the table as its files. A column that the files do not have yet is null.

        Call it after `add_rows`, whose columns it keeps. Raises LakeUnavailable.
        """
        name = scan.table.name
        source = f"iceberg_scan({_quoted(scan.metadata)}, snapshot_from_id => {scan.snapshot_id})"
        there = set(self._columns(f"SELECT * FROM {source}"))
        wanted = self._columns(f'SELECT * FROM "rows_{name}"')
        columns = ", ".join(
            f'"{column}"' if column in there else f'CAST(NULL AS {kind}) AS "{column}"'
            for column, kind in wanted.items()
        )
        self.define(f'CREATE OR REPLACE VIEW "{name}" AS SELECT {columns} FROM {source}')

    def define(self, statement: str) -> None:
        """Run a statement of this application that defines something."""
        with _errors():
            self._connection.execute(statement)

    def columns(self, relation: str) -> dict[str, str]:
        """Return the columns of a table or view, with their types."""
        return self._columns(f'SELECT * FROM "{relation}"')

    def query(self, sql: str) -> Answer:
        """Run one query. Raises QueryRefused for other statements, LakeUnavailable."""
        with _errors():
            self._connection.execute(self._one_query(sql))
            described = self._connection.description or []
            columns = tuple(ResultColumn(str(row[0]), str(row[1])) for row in described)
            return Answer(columns, self._connection.to_arrow_reader(_BATCH_ROWS))

    def plan(self, sql: str) -> dict[str, Any]:
        """Run a query and return its plan with statistics of each step, as DuckDB's JSON. Raises as `query`."""
        with _errors():
            query = self._one_query(sql)
            rows = self._connection.execute(f"EXPLAIN (ANALYZE, FORMAT json) {query}").fetchall()
        plan: dict[str, Any] = json.loads(rows[0][1])
        return plan

    def _columns(self, select: str) -> dict[str, str]:
        with _errors():
            rows = self._connection.execute(f"DESCRIBE {select}").fetchall()
        return {str(row[0]): str(row[1]) for row in rows}

    def _one_query(self, sql: str) -> str:
        statements = self._connection.extract_statements(sql)
        if len(statements) != 1:
            raise QueryRefused(f"give one statement; there are {len(statements)}")
        if statements[0].type not in _QUERIES:
            raise QueryRefused(
                f"only queries are run (SELECT, WITH, DESCRIBE, EXPLAIN); this is {statements[0].type.name}; "
                "--output writes an answer to a file"
            )
        return str(statements[0].query)


def reads_s3(scans: Sequence[TableScan]) -> bool:
    """Return True if reading these tables needs S3 keys."""
    return any(scan.metadata.startswith(_S3_SCHEMES) for scan in scans)


def _extension(name: str) -> Path:
    spec = importlib.util.find_spec(f"duckdb_extension_{name}")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if path.is_file():
            return path
    raise ConfigurationError(
        f"the package duckdb-extension-{name} {duckdb.__version__} is not installed: ./sightline --install"
    )


def _int8_values(column: Any) -> Any:
    """Return each blob as a list of signed bytes, without copying."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return pa.chunked_array([_int8_lists(chunk) for chunk in chunks], pa.list_(pa.int8()))


def _int8_lists(blobs: Any) -> Any:
    blobs = blobs.cast(pa.binary())
    if blobs.null_count:
        blobs = blobs.fill_null(b"")
    _, offsets, values = blobs.buffers()
    bounds = pa.Array.from_buffers(pa.int32(), len(blobs) + 1, [None, offsets], offset=blobs.offset)
    size = values.size if values is not None else 0
    return pa.ListArray.from_arrays(bounds, pa.Array.from_buffers(pa.int8(), size, [None, values]))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (duckdb.HTTPException, duckdb.IOException) as error:
        raise LakeUnavailable(f"cannot read the lake's files: {_sentence(error)}") from error
    except duckdb.OutOfMemoryException as error:
        raise QueryRefused(
            f"the query needs more than SIGHTLINE_LAKE_SQL_MEMORY_BYTES allows: {_sentence(error)}"
        ) from error
    except (duckdb.Error, pa.ArrowException) as error:
        raise QueryRefused(_sentence(error)) from error


def _sentence(error: BaseException) -> str:
    """Return DuckDB's error as one line: message, suggestions and the line of the statement."""
    message, _, place = str(error).partition("\n\nLINE ")
    text = re.sub(r"\s+", " ", message).strip()
    line = place.split(":", 1)[0] if place else ""
    return f"{text} (line {line})" if line.isdigit() else text
