"""Odd names and odd answers: whatever they are, a fetch ends in bytes, in a reason or in one of our errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.object_names import may_be_host, never_asked_for, reference_fault
from app.errors import BadReference, BucketUnavailable, ObjectUnavailable, StoreUnavailable
from app.ports.objects import FetchedObject, ObjectMissing, ObjectRef
from app.settings import S3Settings, Secret
from app.systems.registry.avro import Codec
from app.systems.s3.objects import S3ObjectStore
from app.systems.s3.put import Uploader
from app.systems.s3.write import S3WriteStore
from tests.support.outcomes import prediction
from tests.support.stores.faulty import FaultyStore, whole
from tests.support.stores.odd_answers import ODD_ANSWERS, raw

BODY = b"a picture"
REF = ObjectRef("bucket", "photo.jpg", None, "e1", len(BODY))
LIMIT = 8_000
EXAMPLES = settings(max_examples=200, deadline=None)
# Headers of a request. Any other name was injected through a value.
HEADERS = {"host", "authorization", "x-amz-date", "x-amz-content-sha256", "if-match", "content-length"}

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=30)
NASTY = st.sampled_from(
    [
        "",
        "e1\nx-evil: 1",
        "a\r\n\r\nGET / HTTP/1.1",
        "\0",
        "\udcff",
        "../../x",
        "a/../../b",
        "evil.example:80#",
        "@evil",
        *("[::1]", "127.0.0.1", "%2e%2e", "a b", 'a"b', "x" * 2000, "\u2028", "\x85", "\x7f", "?a=b", "#", "http://x/"),
    ]
)
TEXT = ANY_TEXT | NASTY


def settings_of(server: FaultyStore) -> S3Settings:
    return S3Settings(
        endpoint=server.endpoint,
        access_key="demo",
        secret_key=Secret("demo-secret"),
        connect_timeout_seconds=1.0,
        read_timeout_seconds=0.3,
        object_timeout_seconds=1.0,
        attempts=1,
    )


class Rig:
    """One server and one store for all examples of a test, on one event loop."""

    def __init__(self, runner: asyncio.Runner, server: FaultyStore) -> None:
        self.runner = runner
        self.server = server
        self.settings = settings_of(server)

    def fetch(self, ref: ObjectRef, alternate_key: str | None = None) -> FetchedObject | ObjectMissing:
        async def once() -> FetchedObject | ObjectMissing:
            async with store_of(self.server) as store:
                return await store.fetch(ref, max_bytes=LIMIT, alternate_key=alternate_key)

        return self.runner.run(once())


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with asyncio.Runner() as runner:
        server = runner.run(FaultyStore().__aenter__())
        yield Rig(runner, server)
        runner.run(server.stop())


# --- names ---


@EXAMPLES
@given(
    st.sampled_from(["bucket", "my_Bucket"]) | TEXT,
    st.sampled_from(["photo.jpg", "a b+c.jpg"]) | TEXT,
    st.none() | TEXT,
    st.sampled_from(["e1", None]) | TEXT,
    st.none() | TEXT,
)
def test_no_name_chooses_a_host_a_bucket_or_a_header(
    rig: Rig, bucket: str, key: str, version_id: str | None, etag: str | None, alternate: str | None
) -> None:
    rig.server.always = whole(BODY)
    rig.server.requests.clear()
    ref = ObjectRef(bucket, key, version_id, etag, None)
    try:
        found = rig.fetch(ref, alternate)
    except BadReference as refused:
        assert reference_fault(bucket, key, version_id, etag) == (refused.reason, refused.detail)
        assert not rig.server.requests
        return
    if isinstance(found, ObjectMissing):
        assert found.reason == "forbidden" and never_asked_for(key) is not None and not rig.server.requests
        return
    assert found.body == BODY
    (request,) = rig.server.requests
    path, _, query = request.path.partition("?")
    assert unquote(path, errors="strict") == f"/{bucket}/{key}"
    assert unquote(query) == (f"versionId={version_id}" if version_id else "")
    assert set(request.headers) <= HEADERS
    assert request.headers["host"] == rig.settings.endpoint.removeprefix("http://")


@given(st.text(st.characters(codec="ascii"), min_size=1, max_size=70) | NASTY, st.text(min_size=1, max_size=20))
def test_on_aws_a_bucket_stays_below_the_domain_of_s3(bucket: str, key: str) -> None:
    if reference_fault(bucket, key, None, None) is not None or never_asked_for(key) is not None:
        return
    url = S3ObjectStore(S3Settings(region="eu-west-1")).url_of(bucket, key)
    domain = "s3.eu-west-1.amazonaws.com"
    if may_be_host(bucket):
        assert url.host == f"{bucket}.{domain}" and unquote(url.raw_path) == f"/{key}"
    else:
        assert url.host == domain and unquote(url.raw_path) == f"/{bucket}/{key}"
    assert (url.scheme, url.user, url.raw_query_string, url.raw_fragment) == ("https", None, "", "")


# --- answers ---


def check_text(*texts: str | None) -> None:
    """Assert that text of a record can be encoded as UTF-8."""
    for text in texts:
        if text is not None:
            assert text.encode().decode() == text


@EXAMPLES
@given(ODD_ANSWERS, st.none() | st.just("v1"))
def test_no_answer_ends_in_anything_but_a_result_or_the_objects_own_failure(
    rig: Rig, answer: Any, version_id: str | None
) -> None:
    rig.server.always = answer
    ref = ObjectRef("bucket", "photo.jpg", version_id, "e1", None)
    try:
        found = rig.fetch(ref, "photo+.jpg")
    except (ObjectUnavailable, BucketUnavailable) as error:
        check_text(str(error))
    else:
        if isinstance(found, FetchedObject):
            check_text(found.etag, found.version_id)
            assert len(found.body) <= LIMIT
        else:
            check_text(found.detail)
    rig.server.always = whole(BODY)
    again = rig.fetch(REF)
    assert isinstance(again, FetchedObject) and again.body == BODY


@settings(max_examples=100, deadline=None)
@given(ODD_ANSWERS)
def test_no_answer_to_a_writer_ends_in_anything_but_a_result_or_the_objects_own_failure(rig: Rig, answer: Any) -> None:
    async def once() -> None:
        async with store_of(rig.server) as store:
            await store.put_new("bucket", "file", b"x", {"a": "b"})

    rig.server.always = answer
    try:
        rig.runner.run(once())
    except (ObjectUnavailable, BucketUnavailable) as error:
        check_text(str(error))


def test_the_codec_takes_what_odd_headers_leave(rig: Rig) -> None:
    rig.server.always = raw(b'HTTP/1.1 200 X\r\ncontent-length: 1\r\netag: "\xff"\r\nx-amz-version-id: \xff\r\n\r\nx')
    found = rig.fetch(REF)
    assert isinstance(found, FetchedObject) and (found.etag, found.version_id) == (None, None)
    Codec().encode(prediction(etag=found.etag, version_id=found.version_id))


# --- what no name and no answer can bring about, but a setting or a caller ---


async def test_metadata_that_no_header_can_hold_fails_its_object_alone() -> None:
    async with FaultyStore(always=whole(BODY)) as server, store_of(server) as store:
        with pytest.raises(ObjectUnavailable, match="ValueError"):
            await store.put_new("bucket", "file", b"x", {"topic": "a\nx-evil: 1"})
        assert isinstance(await store.fetch(REF, max_bytes=LIMIT), FetchedObject)


async def test_a_line_feed_at_the_end_of_the_access_key_is_waited_for_not_died_of() -> None:
    async with FaultyStore(always=whole(BODY)) as server, store_of(server, access_key="demo\n") as store:
        with pytest.raises(StoreUnavailable, match="ValueError"):
            await store.fetch(REF, max_bytes=LIMIT)


@asynccontextmanager
async def store_of(server: FaultyStore, **changes: Any) -> AsyncIterator[S3WriteStore]:
    made = S3WriteStore(replace(settings_of(server), **changes))
    try:
        yield made
    finally:
        await made.close()


@pytest.mark.parametrize(
    "listing",
    [
        b"no xml",
        b"<ListBucketResult><Contents><Key>a</Key></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>a</Key><Size>x</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><Contents><Key>%zz%ff</Key><Size>1</Size><LastModified>never</LastModified></Contents>"
        b"<EncodingType>url</EncodingType></ListBucketResult>",
        b"<ListBucketResult><Contents><Size>1</Size></Contents></ListBucketResult>",
        b"<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        b"\xff\xfe",
    ],
)
async def test_a_listing_that_cannot_be_read_is_one_of_our_errors(listing: bytes) -> None:
    head = b"HTTP/1.1 200 X\r\ncontent-type: application/xml\r\ncontent-length: %d\r\n\r\n" % len(listing)
    async with FaultyStore(always=raw(head, listing)) as server, store_of(server) as store:
        with suppress(BucketUnavailable, StoreUnavailable):
            assert [row.key async for row in store.list("bucket", "")] == []


@pytest.mark.parametrize(("bucket", "key"), [("a/b", "k"), ("bucket", "\udcff"), ("bucket", "")])
async def test_an_upload_that_no_request_can_name_is_one_of_our_errors(bucket: str, key: str) -> None:
    async with FaultyStore(always=whole(BODY)) as server, Uploader(settings_of(server)) as uploader:
        with pytest.raises(StoreUnavailable):
            await uploader.put(bucket, key, BODY)
