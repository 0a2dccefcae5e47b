"""One suite for every object store: the memory twin, MiniStack and versitygw."""

from __future__ import annotations

import posixpath
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import pytest_asyncio

from app.domain.object_names import normalised_etag
from app.errors import BadReference, BucketUnavailable, StoreUnavailable
from app.ports.objects import FetchedObject, ObjectMissing, ObjectRef, ObjectStore
from app.settings import S3Settings, Secret
from app.stack.local import LocalStack
from app.systems.s3.admin import StoreAccess, create_bucket
from app.systems.s3.objects import S3ObjectStore
from tests.support.memory.objects import MemoryObjectStore

LIMIT = 1 << 20
KEYS = (
    "plain.jpg",
    "with space and+plus.jpg",
    "ünïcode/käse 漢字.jpg",
    "a//b/./c",
    "per%20cent%2Fsign",
    "odd!'()*~$&,;=:@chars",
    'quote"less<than>',
)
# Control characters, and keys that a proxy or a signature may stumble over; NUL is the one that no key holds.
ODD_KEYS = ("line\nfeed\r\nx: y.jpg", "tab\tescape\x1b[31m.jpg", "del\x7f\x85.jpg", "100%", "%zz", "a/../b.jpg")


@dataclass(slots=True)
class Bucket:
    """A store under test, one bucket in it, and how to fill it."""

    store: ObjectStore
    name: str
    put: Callable[[str, bytes], Awaitable[ObjectRef]]
    delete: Callable[[str], Awaitable[None]]
    odd_keys: bool = True


async def _memory() -> AsyncIterator[Bucket]:
    store = MemoryObjectStore()
    store.create_bucket("bucket")

    async def put(key: str, body: bytes) -> ObjectRef:
        return store.put("bucket", key, body)

    async def delete(key: str) -> None:
        store.delete("bucket", key)

    yield Bucket(store, "bucket", put, delete)


def s3_settings(access: StoreAccess, **changes: Any) -> S3Settings:
    settings = S3Settings(
        endpoint=access.endpoint,
        region=access.region,
        access_key=access.access_key,
        secret_key=Secret(access.secret_key),
    )
    return replace(settings, **changes)


async def _server(access: StoreAccess, name: str, odd_keys: bool) -> AsyncIterator[Bucket]:
    from app.systems.s3.admin import _client

    await create_bucket(access, name)
    store = S3ObjectStore(s3_settings(access))
    async with _client("s3", access) as client:

        async def put(key: str, body: bytes) -> ObjectRef:
            answer = await client.put_object(Bucket=name, Key=key, Body=body)
            return ObjectRef(name, key, None, normalised_etag(answer["ETag"]), len(body))

        async def delete(key: str) -> None:
            await client.delete_object(Bucket=name, Key=key)

        yield Bucket(store, name, put, delete, odd_keys)
    await store.close()


@pytest.fixture(
    params=[
        "memory",
        pytest.param("ministack", marks=pytest.mark.services),
        pytest.param("versitygw", marks=pytest.mark.services),
    ]
)
def server(request: pytest.FixtureRequest) -> tuple[str, StoreAccess | None]:
    """Which store, and how to reach it; started only when a test asks for it."""
    match request.param:
        case "memory":
            return "memory", None
        case "ministack":
            stack: LocalStack = request.getfixturevalue("stack")
            return "ministack", stack.s3
        case _:
            return "versitygw", request.getfixturevalue("versitygw")


@pytest_asyncio.fixture
async def bucket(server: tuple[str, StoreAccess | None]) -> AsyncIterator[Bucket]:
    kind, access = server
    # versitygw keeps keys as paths of files, and cannot hold every one.
    made = _memory() if access is None else _server(access, f"bucket-{secrets.token_hex(4)}", kind != "versitygw")
    async for one in made:
        yield one


async def body_of(bucket: Bucket, ref: ObjectRef, **options: Any) -> FetchedObject:
    found = await bucket.store.fetch(ref, max_bytes=LIMIT, **options)
    assert isinstance(found, FetchedObject), found
    return found


async def test_the_bytes_come_with_their_etag(bucket: Bucket) -> None:
    body = secrets.token_bytes(300_000)
    ref = await bucket.put("photo.jpg", body)
    found = await body_of(bucket, ref)
    assert found.body == body and found.etag == ref.etag and not found.superseded and found.key == "photo.jpg"


async def test_an_empty_object_is_read_as_empty(bucket: Bucket) -> None:
    assert (await body_of(bucket, await bucket.put("empty", b""))).body == b""


@pytest.mark.parametrize("key", KEYS)
async def test_any_key_reaches_its_object(bucket: Bucket, key: str) -> None:
    key = key if bucket.odd_keys else posixpath.normpath(key)
    ref = await bucket.put(key, key.encode())
    assert (await body_of(bucket, ref)).body == key.encode()


@pytest.mark.parametrize("key", ODD_KEYS)
async def test_a_key_of_control_characters_reaches_its_object(bucket: Bucket, key: str) -> None:
    if not bucket.odd_keys:
        pytest.skip("this server keeps keys as paths of files")
    ref = await bucket.put(key, key.encode())
    assert (await body_of(bucket, ref)).body == key.encode()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"bucket": "a/../b"}, "bad_bucket"),
        ({"bucket": "evil.example:80#"}, "bad_bucket"),
        ({"bucket": "127.0.0.1"}, "bad_bucket"),
        ({"bucket": ""}, "bad_bucket"),
        ({"key": ""}, "bad_key"),
        ({"key": "k" * 1025}, "bad_key"),
        ({"version_id": "v\r\n1"}, "bad_version_id"),
        ({"version_id": ""}, "bad_version_id"),
        ({"etag": "e1\nx-evil: 1"}, "bad_etag"),
        ({"etag": 'e"1'}, "bad_etag"),
        ({"etag": "\udcff"}, "bad_etag"),
    ],
)
async def test_a_name_against_the_rules_is_refused_before_anything_is_asked(
    bucket: Bucket, change: dict[str, Any], reason: str
) -> None:
    ref = await bucket.put("photo.jpg", b"x")
    with pytest.raises(BadReference) as refused:
        await bucket.store.fetch(replace(ref, **change), max_bytes=LIMIT)
    assert refused.value.reason == reason
    assert (await body_of(bucket, ref, alternate_key="../other/photo.jpg")).body == b"x"


@pytest.mark.parametrize("key", ["a\0b", "../other/photo.jpg", "a/../../b", "..", "./..", "a//../../b"])
async def test_a_key_that_leads_out_of_its_bucket_is_never_asked_for(bucket: Bucket, key: str) -> None:
    found = await bucket.store.fetch(ObjectRef(bucket.name, key, None, None, None), max_bytes=LIMIT)
    assert isinstance(found, ObjectMissing) and found.reason == "forbidden"


async def test_an_overwritten_object_is_read_as_it_is_now_and_marked(bucket: Bucket) -> None:
    before = await bucket.put("photo.jpg", b"before")
    await bucket.put("photo.jpg", b"after")
    found = await body_of(bucket, before)
    assert found.body == b"after" and found.superseded


async def test_without_an_etag_what_is_there_is_what_was_meant(bucket: Bucket) -> None:
    ref = await bucket.put("photo.jpg", b"now")
    found = await body_of(bucket, replace(ref, etag=None))
    assert found.body == b"now" and not found.superseded and found.etag == ref.etag


async def test_a_deleted_object_is_gone(bucket: Bucket) -> None:
    ref = await bucket.put("photo.jpg", b"x")
    await bucket.delete("photo.jpg")
    found = await bucket.store.fetch(ref, max_bytes=LIMIT)
    assert isinstance(found, ObjectMissing) and found.reason == "gone"


async def test_the_other_reading_of_a_key_is_taken_only_with_the_right_etag(bucket: Bucket) -> None:
    ref = await bucket.put("red flower.jpg", b"flower")
    await bucket.put("blue+flower.jpg", b"another")
    asked = replace(ref, key="red+flower.jpg")
    found = await body_of(bucket, asked, alternate_key="red flower.jpg")
    assert found.body == b"flower" and found.key == "red flower.jpg"
    wrong = await bucket.store.fetch(asked, max_bytes=LIMIT, alternate_key="blue+flower.jpg")
    assert isinstance(wrong, ObjectMissing) and wrong.reason == "gone"
    none = await bucket.store.fetch(replace(asked, etag=None), max_bytes=LIMIT, alternate_key="red flower.jpg")
    assert isinstance(none, ObjectMissing)


async def test_a_body_beyond_the_limit_is_not_read(bucket: Bucket) -> None:
    ref = await bucket.put("large", b"x" * 5000)
    found = await bucket.store.fetch(ref, max_bytes=4999)
    assert isinstance(found, ObjectMissing) and found.reason == "too_large"
    assert isinstance(await bucket.store.fetch(ref, max_bytes=5000), FetchedObject)


async def test_a_bucket_that_does_not_exist_is_unavailable(bucket: Bucket) -> None:
    ref = ObjectRef("no-such-bucket-anywhere", "key", None, None, None)
    with pytest.raises(BucketUnavailable):
        await bucket.store.fetch(ref, max_bytes=LIMIT)
    with pytest.raises(BucketUnavailable):
        assert [row async for row in bucket.store.list("no-such-bucket-anywhere", "")] == []


async def test_listing_gives_what_lies_below_a_prefix(bucket: Bucket) -> None:
    refs = [await bucket.put(f"shop/{number}.jpg", b"x" * number) for number in range(1, 4)]
    await bucket.put("other.jpg", b"y")
    rows = [row async for row in bucket.store.list(bucket.name, "shop/")]
    assert [(row.key, row.etag, row.size_bytes) for row in rows] == [(r.key, r.etag, r.size_bytes) for r in refs]
    assert all(row.modified_ms > 0 for row in rows)


@pytest.mark.services
async def test_a_wrong_secret_makes_the_store_unavailable_not_the_object_gone(versitygw: StoreAccess) -> None:
    store = S3ObjectStore(s3_settings(versitygw, secret_key=Secret("wrong")))
    with pytest.raises(StoreUnavailable, match="SignatureDoesNotMatch"):
        await store.fetch(ObjectRef("any", "key", None, None, None), max_bytes=LIMIT)
    await store.close()


@pytest.mark.services
async def test_a_version_is_read_exactly_even_when_overwritten(stack: LocalStack) -> None:
    from app.systems.s3.admin import _client

    name = f"bucket-{secrets.token_hex(4)}"
    await create_bucket(stack.s3, name)
    store = S3ObjectStore(s3_settings(stack.s3))
    async with _client("s3", stack.s3) as client:
        await client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        first = await client.put_object(Bucket=name, Key="k", Body=b"first")
        await client.put_object(Bucket=name, Key="k", Body=b"second")
        await client.delete_object(Bucket=name, Key="k")
    ref = ObjectRef(name, "k", first["VersionId"], normalised_etag(first["ETag"]), 5)
    found = await store.fetch(ref, max_bytes=LIMIT)
    assert isinstance(found, FetchedObject) and found.body == b"first" and not found.superseded
    assert found.version_id == first["VersionId"]
    now = await store.fetch(replace(ref, version_id=None), max_bytes=LIMIT)
    assert isinstance(now, ObjectMissing) and now.reason == "gone"
    await store.close()
