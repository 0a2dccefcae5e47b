"""One suite for every store that writes objects once: the memory twin, MiniStack and versitygw."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest
import pytest_asyncio

from app.errors import BucketUnavailable, StoreUnavailable
from app.ports.objects import FetchedObject, ObjectRef, WriteOnceStore
from app.settings import S3Settings, Secret
from app.stack.local import LocalStack
from app.systems.s3.admin import StoreAccess, create_bucket
from app.systems.s3.write import S3WriteStore
from tests.contract.test_object_store import s3_settings
from tests.support.memory.objects import MemoryObjectStore
from tests.support.stack import TestNames

RIVALS = 16
ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Place:
    """A store under test and one bucket in it."""

    store: WriteOnceStore
    bucket: str

    async def body(self, key: str) -> bytes:
        found = await self.store.fetch(ObjectRef(self.bucket, key, None, None, None), max_bytes=1 << 22)
        assert isinstance(found, FetchedObject), found
        return found.body


@pytest.fixture(
    params=[
        "memory",
        pytest.param("ministack", marks=pytest.mark.services),
        pytest.param("versitygw", marks=pytest.mark.services),
    ]
)
def access(request: pytest.FixtureRequest) -> StoreAccess | None:
    """How to reach the store; None is the memory twin."""
    match request.param:
        case "memory":
            return None
        case "ministack":
            stack: LocalStack = request.getfixturevalue("stack")
            return stack.s3
        case _:
            found: StoreAccess = request.getfixturevalue("versitygw")
            return found


@pytest_asyncio.fixture
async def place(access: StoreAccess | None, names: TestNames) -> AsyncIterator[Place]:
    if access is None:
        memory = MemoryObjectStore()
        memory.create_bucket(names.bucket)
        yield Place(memory, names.bucket)
        return
    await create_bucket(access, names.bucket)
    store = S3WriteStore(s3_settings(access))
    yield Place(store, names.bucket)
    await store.close()


async def test_an_object_is_written_once_and_tells_its_metadata(place: Place) -> None:
    body = secrets.token_bytes(300_000)
    told = {"start": "7", "end": "120", "topic": "image.predictions.v1"}
    assert await place.store.put_new(place.bucket, "a/topic=x/0007.parquet", body, told)
    assert not await place.store.put_new(place.bucket, "a/topic=x/0007.parquet", b"another", {"start": "8"})
    assert await place.body("a/topic=x/0007.parquet") == body
    assert await place.store.metadata(place.bucket, "a/topic=x/0007.parquet") == told


async def test_nothing_is_told_of_what_is_not_there(place: Place) -> None:
    assert await place.store.metadata(place.bucket, "absent") is None


async def test_of_rivals_at_once_exactly_one_wins_and_its_bytes_stand(place: Place) -> None:
    for number in range(ROUNDS):
        bodies = [secrets.token_bytes(50_000) for _ in range(RIVALS)]
        won = await asyncio.gather(
            *(
                place.store.put_new(place.bucket, f"raced/{number}", body, {"writer": str(n)})
                for n, body in enumerate(bodies)
            )
        )
        assert won.count(True) == 1
        winner = won.index(True)
        assert await place.body(f"raced/{number}") == bodies[winner]
        assert await place.store.metadata(place.bucket, f"raced/{number}") == {"writer": str(winner)}


async def test_listing_begins_after_a_key(place: Place) -> None:
    for number in (0, 100, 250, 900):
        await place.store.put_new(place.bucket, f"p/{number:020}.parquet", b"x", {"start": str(number)})
    await place.store.put_new(place.bucket, "q/0", b"x", {"start": "0"})

    async def listed(after: int) -> list[int]:
        rows = place.store.list(place.bucket, "p/", f"p/{after:020}.parquet")
        return [int(row.key.removeprefix("p/").removesuffix(".parquet")) async for row in rows]

    assert await listed(100) == [250, 900]
    assert await listed(99) == [100, 250, 900]
    assert await listed(900) == []
    assert [row.key[:2] async for row in place.store.list(place.bucket, "p/")] == ["p/"] * 4


async def test_a_bucket_that_does_not_exist_is_unavailable(place: Place) -> None:
    with pytest.raises(BucketUnavailable):
        await place.store.put_new("no-such-bucket-anywhere", "key", b"x", {"start": "0"})


async def test_a_server_that_is_gone_is_unavailable() -> None:
    settings = S3Settings(
        endpoint="http://127.0.0.1:9", access_key="a", secret_key=Secret("b"), attempts=2, connect_timeout_seconds=0.5
    )
    store = S3WriteStore(settings)
    try:
        with pytest.raises(StoreUnavailable):
            await store.put_new("bucket", "key", b"x", {"start": "0"})
        with pytest.raises(StoreUnavailable):
            await store.metadata("bucket", "key")
    finally:
        await store.close()
