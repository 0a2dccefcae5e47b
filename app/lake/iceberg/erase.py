"""Erasure of the rows of one image or content from each table, together with the files that contain them.

All methods block. They raise LakeUnavailable, also if the catalog has lost a table; otherwise nothing would be erased
without notice.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.expressions import And, BooleanExpression, Or

from app.domain.lake import LakeTable, table_named
from app.lake.iceberg.catalog import lake_errors
from app.lake.iceberg.commit import append_files
from app.lake.iceberg.erasures import Erasures
from app.lake.iceberg.expire import expire_snapshots
from app.lake.iceberg.read import TableReader, equal
from app.lake.iceberg.references import referenced_files
from app.lake.iceberg.remove import Chosen, Mask, choose, is_any, remove_rows
from app.settings import Settings

_ALL: Final = 1 << 62
_READINGS: Final = ("key", "event_key")


@dataclass(frozen=True, slots=True)
class Image:
    """Image to be erased, by either reading of its key."""

    bucket: str
    key: str


@dataclass(frozen=True, slots=True)
class Content:
    """Contents to be erased, by digest."""

    digests: frozenset[str]


Target = Image | Content


class Eraser:
    """Eraser for the tables of one catalog."""

    def __init__(self, catalog: Catalog, settings: Settings) -> None:
        self._catalog, self._settings = catalog, settings
        self._erasures = Erasures(catalog, settings)

    def count(self, row: LakeTable, target: Target) -> tuple[int, int]:
        """Return the number of rows and files that contain `target`."""
        chosen = _look(self._reader(row), target)
        return sum(len(each.coordinates) for each in chosen), len(chosen)

    def erase(self, row: LakeTable, target: Target, at_ms: int) -> int:
        """Remove the rows and return their number. Their coordinates are recorded first.

        The order matters: a row that is removed but not recorded would count as missing, and `repair` would restore it.
        """
        reader = self._reader(row)
        noted: set[tuple[int, int]] = set()

        def look() -> list[Chosen]:
            chosen = _look(reader, target)
            new = sorted({place for each in chosen for place in each.coordinates if None not in place} - noted)
            if new:
                self._erasures.record(row.name, new, at_ms)
                noted.update(new)
            return chosen

        return len(remove_rows(reader, look))

    def forget(self, row: LakeTable) -> list[str]:
        """Remove all older snapshots. Return the files that only they needed; the caller deletes them.

        The current snapshot keeps the sink's progress. The names and bounds of replaced files are in a manifest of the
        snapshot that replaced them; one more, empty commit drops that manifest too.
        """
        reader = self._reader(row)
        if reader.table.metadata.current_snapshot_id is None:
            return []
        with lake_errors(f"leaving the former snapshots of {row.name}"):
            append_files(reader.table, [])
        before = referenced_files(reader.table)
        expire_snapshots(reader, _ALL)
        reader.open()
        return sorted(before - referenced_files(reader.table))

    def still_held(self, row: LakeTable) -> list[str]:
        """Return the tags and branches that keep former snapshots, and so the erased rows."""
        return sorted(name for name in self._reader(row).table.metadata.refs if name != "main")

    def digests(self, image: Image) -> frozenset[str]:
        """Return the contents of this image that no other image in the lake has; their embeddings are erased too."""
        digests: set[str] = set()
        for name in ("predictions", "flagged", "decisions"):
            digests |= self._collect(table_named(name), image)
        if not digests:
            return frozenset()
        shared: set[str] = set()
        reader = self._reader(table_named("predictions"))
        wanted = frozenset(digests)

        def others(batch: Any) -> Mask:
            mask: Mask = is_any(batch, "sha256", wanted) & ~_mask(batch, image)
            shared.update(batch.column("sha256").filter(pa.array(mask)).to_pylist())
            return _nothing(batch)

        choose(reader, _columns(reader, image), others)
        return frozenset(digests - shared)

    def _collect(self, row: LakeTable, image: Image) -> set[str]:
        digests: set[str] = set()
        reader = self._reader(row)

        def note(batch: Any) -> Mask:
            digests.update(batch.column("sha256").filter(pa.array(_mask(batch, image))).to_pylist())
            return _nothing(batch)

        choose(reader, _columns(reader, image), note, _matching(reader, image))
        return {digest for digest in digests if digest}

    def _reader(self, row: LakeTable) -> TableReader:
        return TableReader(self._catalog, self._settings, row).require()


def _look(reader: TableReader, target: Target) -> list[Chosen]:
    columns = _columns(reader, target)
    if not columns:
        return []
    return choose(reader, columns, partial(_mask, target=target), _matching(reader, target))


def _columns(reader: TableReader, target: Target) -> tuple[str, ...]:
    known = reader.table.schema().column_names
    if isinstance(target, Content):
        return ("sha256",) if "sha256" in known else ()
    if "bucket" not in known:
        return ()
    return tuple(name for name in ("bucket", *_READINGS, "sha256") if name in known)


def _mask(batch: Any, target: Target) -> Mask:
    if isinstance(target, Content):
        return is_any(batch, "sha256", target.digests)
    key = frozenset((target.key,))
    readings: Mask = is_any(batch, "key", key) | is_any(batch, "event_key", key)
    return is_any(batch, "bucket", frozenset((target.bucket,))) & readings


def _matching(reader: TableReader, target: Target) -> BooleanExpression | None:
    """Return the filter that excludes files by their bounds; None without one."""
    if isinstance(target, Content):
        return None if len(target.digests) != 1 else equal("sha256", next(iter(target.digests)))
    known = reader.table.schema().column_names
    readings = [equal(name, target.key) for name in _READINGS if name in known]
    either = readings[0] if len(readings) == 1 else Or(*readings)
    return And(equal("bucket", target.bucket), either)


def _nothing(batch: Any) -> Mask:
    return is_any(batch, "", frozenset())
