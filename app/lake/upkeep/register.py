"""Registration of tables after the loss of a catalog: the files are the table, the catalog only refers to them."""

from __future__ import annotations

import asyncio
from typing import Any

from app.domain.lake import LakeTable
from app.lake.iceberg.references import METADATA_ENDING
from app.lake.iceberg.register import attach, newest_whole, table_folder
from app.settings import Settings
from app.systems.s3.files import LakeStore


async def register(catalog: Any, settings: Settings, row: LakeTable, store: LakeStore, *, replace: bool) -> str | None:
    """Register one table by its newest metadata file. Return a description of what was done; None without files.

    Raises LakeUnavailable, StoreUnavailable.
    """
    folder = table_folder(settings, row) + "metadata/"
    paths = [file.path async for file in store.list(folder) if file.path.endswith(METADATA_ENDING)]
    newest = await asyncio.to_thread(newest_whole, catalog, paths)
    if newest is None:
        return None
    return await asyncio.to_thread(lambda: attach(catalog, settings, row, *newest, replace=replace))
