"""A table that the catalog forgot, attached again by the newest metadata file that lies in its folder."""

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

# Metadata files of commits that lost their race carry the number of the one that won; more than this many broken ones
# at the end of a history are no accident.
_TRIED: Final = 10


def table_folder(settings: Settings, row: LakeTable) -> str:
    """Return where the files of a table lie when the catalog cannot tell: as every catalog of ours places them."""
    return f"{settings.lake.warehouse.rstrip('/')}/{settings.lake.namespace}/{row.name}/"


def newest_whole(catalog: Catalog, paths: Sequence[str]) -> tuple[str, str] | None:
    """Return the newest of some metadata files whose current snapshot can be read, and its table's uuid.

    A commit that lost leaves a metadata file whose manifests are gone. None when there are no such files at all.
    Raises LakeUnavailable when none of the newest can be read.
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
    """Make the catalog know the table by this metadata file; return what was done, in words.

    A table of the same name with another uuid is left alone unless `replace`; then the catalog forgets it, and its
    files stay. Raises LakeUnavailable.
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
