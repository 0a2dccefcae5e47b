"""One suite for the tables: the memory twin, and Faust's tables on real RocksDB files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import faust
import pytest
import pytest_asyncio
from faust.types import TP

from app.settings import TableSettings
from app.systems.faust.tables import FaustTables
from tests.support.memory.streams import MemoryTables

PARTITIONS = 2


class TablesUnderTest(Protocol):
    def get(self, table: str, partition: int, key: bytes) -> bytes | None: ...

    async def put(self, table: str, partition: int, entries: Mapping[bytes, bytes]) -> None: ...

    def exclusive(self, table: str, partition: int) -> Any: ...


class SlowChangelog:
    """A changelog whose writes become durable when the test lets them."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.offset = -1

    async def append(self, topic: str, partition: int, entries: Mapping[bytes, bytes]) -> int:
        await self.open.wait()
        self.offset += len(entries)
        return self.offset


def faust_tables(folder: Path, changelog: SlowChangelog) -> FaustTables:
    app = faust.App("contract", broker="kafka://127.0.0.1:1", datadir=str(folder), autodiscover=False, origin=None)
    tables = FaustTables(app, TableSettings(), PARTITIONS, changelog)
    for name in ("uploads", "contents", "embeddings"):
        for partition in range(PARTITIONS):
            tables.store_of(name)._db_for_partition(partition)
    return tables


@pytest_asyncio.fixture(params=["memory", "rocksdb"])
async def tables(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[TablesUnderTest]:
    if request.param == "memory":
        yield MemoryTables(("uploads", "contents", "embeddings"), range(PARTITIONS))
    else:
        yield faust_tables(tmp_path, SlowChangelog())


async def test_what_was_put_is_there_in_its_table_and_partition_alone(tables: TablesUnderTest) -> None:
    await tables.put("contents", 1, {b"k": b"v", b"\x00": b""})
    assert tables.get("contents", 1, b"k") == b"v"
    assert tables.get("contents", 1, b"\x00") == b""
    assert tables.get("contents", 0, b"k") is None
    assert tables.get("uploads", 1, b"k") is None
    await tables.put("contents", 1, {b"k": b"w"})
    assert tables.get("contents", 1, b"k") == b"w"


async def test_a_partition_that_is_not_owned_is_a_key_error(tables: TablesUnderTest) -> None:
    with pytest.raises(KeyError):
        tables.get("contents", 7, b"k")


async def test_exclusive_holds_others_out(tables: TablesUnderTest) -> None:
    order: list[str] = []

    async def second() -> None:
        async with tables.exclusive("uploads", 0):
            order.append("second")

    async with tables.exclusive("uploads", 0):
        waiting = asyncio.create_task(second())
        async with tables.exclusive("uploads", 1):
            order.append("other partition")
        await asyncio.sleep(0)
        order.append("first")
    await waiting
    assert order == ["other partition", "first", "second"]


async def test_an_entry_is_visible_only_when_its_changelog_record_is_durable(tmp_path: Path) -> None:
    changelog = SlowChangelog()
    tables = faust_tables(tmp_path, changelog)
    changelog.open.clear()
    putting = asyncio.create_task(tables.put("uploads", 0, {b"k": b"v"}))
    await asyncio.sleep(0)
    assert tables.get("uploads", 0, b"k") is None
    changelog.open.set()
    await putting
    assert tables.get("uploads", 0, b"k") == b"v"


async def test_entries_and_their_offset_are_found_by_the_next_process(tmp_path: Path) -> None:
    tables = faust_tables(tmp_path, SlowChangelog())
    await tables.put("uploads", 0, {b"k": b"v", b"l": b"w"})
    for name in ("uploads", "contents", "embeddings"):
        await tables.store_of(name).stop()
    again = faust_tables(tmp_path, SlowChangelog())
    assert again.get("uploads", 0, b"l") == b"w"
    assert again.store_of("uploads").persisted_offset(TP("any", 0)) == 1


async def test_a_revoked_partition_is_neither_read_nor_opened_again(tmp_path: Path) -> None:
    tables = faust_tables(tmp_path, SlowChangelog())
    store = tables.store_of("uploads")
    del store._dbs[0]
    await tables.put("uploads", 0, {b"k": b"v"})
    assert not store.owns(0)
    with pytest.raises(KeyError):
        tables.get("uploads", 0, b"k")
