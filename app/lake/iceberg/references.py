"""Files that a table refers to, that is, files that one of its snapshots needs. All others in its folder are orphans.

All functions block. A table that cannot be read completely raises LakeUnavailable; the set is never incomplete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table

from app.lake.iceberg.catalog import lake_errors

METADATA_ENDING: Final = ".metadata.json"


def referenced_files(table: Table) -> set[str]:
    """Return data files, delete files, manifests, manifest lists, metadata and statistics files that are in use.

    Memory: a path of about 200 bytes per file. Raises LakeUnavailable.
    """
    metadata = table.metadata
    paths = {table.metadata_location}
    paths.update(entry.metadata_file for entry in metadata.metadata_log)
    paths.update(part.statistics_path for part in (*metadata.statistics, *metadata.partition_statistics))
    seen: set[str] = set()
    with lake_errors(f"reading the manifests of {'.'.join(table.name())}"):
        for snapshot in metadata.snapshots:
            paths.add(snapshot.manifest_list)
            for manifest in snapshot.manifests(table.io):
                if manifest.manifest_path in seen:
                    continue
                seen.add(manifest.manifest_path)
                for entry in manifest.fetch_manifest_entry(table.io, discard_deleted=True):
                    paths.add(entry.data_file.file_path)
    return {plain_path(path) for path in paths | seen}


def table_location(table: Table) -> str:
    """Return the folder of a table, with a slash at its end."""
    return plain_path(table.location()).rstrip("/") + "/"


def other_locations(table: Table) -> tuple[str, ...]:
    """Return the folders of other tables of the namespace below this table's folder. Raises LakeUnavailable."""
    with lake_errors("listing the catalog's tables"):
        mine = table_location(table)
        names = [name for name in table.catalog.list_tables(table.name()[:-1]) if name[-1] != table.name()[-1]]
        locations = [table_location(table.catalog.load_table(name)) for name in names]
    return tuple(location for location in locations if location.startswith(mine))


def strangers(table: Table, paths: Sequence[str]) -> list[str]:
    """Return the metadata files among `paths` that belong to another table. Raises LakeUnavailable."""
    others = []
    for path in paths:
        with lake_errors(f"reading {path}"):
            metadata = FromInputFile.table_metadata(table.io.new_input(path))
            if metadata.table_uuid != table.metadata.table_uuid:
                others.append(path)
    return others


def plain_path(path: str) -> str:
    """Return a path with the scheme of listings: s3a and s3n are the same store."""
    scheme, separator, rest = path.partition("://")
    return f"s3://{rest}" if separator and scheme in ("s3a", "s3n") else path
