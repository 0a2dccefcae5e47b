"""Registration of a table that the catalog lost, by the newest metadata file in its folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pyiceberg.catalog import Catalog
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import StaticTable

from app.domain.lake import LakeTable
from app.errors import LakeUnavailable
from app.lake.iceberg.catalog import full_name, lake_errors, load_table, make_namespace
from app.settings import Settings

# Metadata files of commits that lost a collision have the number of the winner. More unreadable files than this at the
# end of a history are not the result of collisions.
_TRIED: Final = 10


def table_folder(settings: Settings, row: LakeTable) -> str:
    """Return the folder of a table without asking the catalog: all catalogs of this application use this folder."""
    return f"{settings.lake.warehouse.rstrip('/')}/{settings.lake.namespace}/{row.name}/"


def newest_whole(catalog: Catalog, paths: Sequence[str]) -> tuple[str, str] | None:
    """Return the newest metadata file whose current snapshot can be read, and its table's uuid; None without files.

    A commit that lost a collision leaves a metadata file without manifests. Raises LakeUnavailable if none of the
    newest files can be read.
    """
    ordered = sorted(paths, key=_number, reverse=True)[:_TRIED]
    readable: list[tuple[int, int, str, str]] = []
    failure: LakeUnavailable | None = None
    for path in ordered:
        if readable and _number(path) < readable[0][0]:
            break
        try:
            with lake_errors(f"reading {path}"):
                table = StaticTable.from_metadata(path, catalog.properties)
                metadata = FromInputFile.table_metadata(table.io.new_input(path))
                snapshot = metadata.current_snapshot()
                for manifest in () if snapshot is None else snapshot.manifests(table.io):
                    manifest.fetch_manifest_entry(table.io)
        except LakeUnavailable as error:
            failure = error
            continue
        readable.append((_number(path), metadata.last_updated_ms, path, str(metadata.table_uuid)))
    if not readable and failure is not None:
        raise failure
    return max(readable)[2:] if readable else None


def attach(catalog: Catalog, settings: Settings, row: LakeTable, path: str, uuid: str, *, replace: bool) -> str:
    """Register the table with this metadata file in the catalog. Return a description of what was done.

    A table of the same name with another uuid is refused, unless `replace`: then it is removed from the catalog, and
    its files stay. Raises LakeUnavailable.
    """
    name = full_name(settings, row)
    with lake_errors(f"registering {row.name}"):
        make_namespace(catalog, settings)
        known = load_table(catalog, settings, row)
        if known is not None:
            if str(known.metadata.table_uuid) == uuid:
                return "is attached"
            if not replace:
                raise LakeUnavailable(
                    f"the catalog has another table {row.name}, made anew after the one in {path}; stop the connector "
                    "and give --replace to attach that one instead, then `./sightline lake repair`"
                )
            catalog.drop_table(name)
        catalog.register_table(name, path)
    return f"attached by {path}"


def _number(path: str) -> int:
    digits = path.rpartition("/")[2].partition("-")[0]
    return int(digits) if digits.isdigit() else -1
