"""What a failing store does to one fetch: each failure of docs/semantics.md, and who is blamed for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from aiobotocore.credentials import AioCredentials
from botocore.exceptions import CredentialRetrievalError

from app.errors import BucketUnavailable, ObjectUnavailable, StoreUnavailable
from app.ports.objects import FetchedObject, ObjectMissing, ObjectRef
from app.settings import S3Settings, Secret
from app.systems.s3.credentials import ChainCredentials
from app.systems.s3.objects import S3ObjectStore
from tests.support.eventually import eventually
from tests.support.stores.faulty import FaultyStore, closed, cut, dripping, endless, error, stalled, whole

BODY = bytes(range(256)) * 500
REF = ObjectRef("bucket", "photos/a b.jpg", None, "e1", len(BODY))


@pytest_asyncio.fixture
async def server() -> AsyncIterator[FaultyStore]:
    async with FaultyStore() as running:
        yield running


@pytest_asyncio.fixture
async def store(server: FaultyStore) -> AsyncIterator[S3ObjectStore]:
    made = S3ObjectStore(settings_for(server))
    yield made
    await made.close()


def settings_for(server: FaultyStore, **changes: Any) -> S3Settings:
    settings = S3Settings(
        endpoint=server.endpoint,
        access_key="demo",
        secret_key=Secret("demo-secret"),
        connect_timeout_seconds=0.5,
        read_timeout_seconds=0.3,
        object_timeout_seconds=5.0,
    )
    return replace(settings, **changes)


async def fetch(store: S3ObjectStore, ref: ObjectRef = REF, **options: Any) -> FetchedObject | ObjectMissing:
    return await store.fetch(ref, max_bytes=1 << 20, **options)


@pytest.mark.parametrize(
    "failure",
    [
        error(503, "SlowDown"),
        error(500, "InternalError"),
        error(502),
        error(429),
        error(400, "RequestTimeout"),
        cut(BODY, 1000),
        cut(BODY, 0),
        stalled(BODY, 1000),
        stalled(BODY, 0),
        closed(),
    ],
    ids=["slow_down", "500", "502", "429", "request_timeout", "cut", "cut_at_0", "stalled", "stalled_at_0", "closed"],
)
async def test_a_passing_failure_is_retried_and_the_whole_body_comes(
    server: FaultyStore, store: S3ObjectStore, failure: Any
) -> None:
    server.script = [failure, failure, whole(BODY)]
    found = await fetch(store)
    assert isinstance(found, FetchedObject) and found.body == BODY and not found.superseded
    assert len(server.gets) == 3
    assert all(one.headers["if-match"] == '"e1"' for one in server.gets)
    assert server.gets[0].path == "/bucket/photos/a%20b.jpg"


@pytest.mark.parametrize("failure", [error(503, "SlowDown"), cut(BODY, 1000), stalled(BODY, 1000)])
async def test_a_lasting_failure_of_one_object_is_its_own_while_its_bucket_answers(
    server: FaultyStore, store: S3ObjectStore, failure: Any
) -> None:
    server.always = failure
    with pytest.raises(ObjectUnavailable):
        await fetch(store)
    assert len(server.gets) == 3, "the attempts of the settings, no more"


async def test_a_failing_bucket_is_blamed_while_the_store_answers(server: FaultyStore, store: S3ObjectStore) -> None:
    server.always, server.bucket_status = error(503), 503
    server.store_status = 403
    with pytest.raises(BucketUnavailable):
        await fetch(store)


@pytest.mark.parametrize("store_status", [500, 503, 0])
async def test_a_store_that_fails_everything_is_blamed_as_a_whole(
    server: FaultyStore, store: S3ObjectStore, store_status: int
) -> None:
    server.always, server.bucket_status, server.store_status = error(503), 503, store_status
    with pytest.raises(StoreUnavailable):
        await fetch(store)


async def test_a_store_that_is_gone_is_unavailable_and_comes_back(server: FaultyStore, store: S3ObjectStore) -> None:
    await server.stop()
    with pytest.raises(StoreUnavailable):
        await fetch(store)
    async with FaultyStore(always=whole(BODY)) as back:
        again = S3ObjectStore(settings_for(back))
        assert isinstance(await fetch(again), FetchedObject)
        await again.close()


async def test_a_neighbour_that_is_read_meanwhile_makes_it_the_objects_own_failure(
    server: FaultyStore, store: S3ObjectStore
) -> None:
    server.bucket_status = server.store_status = 503
    server.script = [stalled(BODY, 10), whole(BODY)]
    server.always = error(503)
    broken = asyncio.create_task(fetch(store))
    await eventually(lambda: len(server.gets) == 1, every_seconds=0.005)
    assert isinstance(await fetch(store, replace(REF, key="neighbour")), FetchedObject)
    with pytest.raises(ObjectUnavailable):
        await broken


async def test_a_body_that_drips_ends_at_the_time_limit_of_the_object(server: FaultyStore) -> None:
    store = S3ObjectStore(settings_for(server, object_timeout_seconds=1.0))
    server.always = dripping(BODY, 0.05)
    began = time.monotonic()
    with pytest.raises(ObjectUnavailable):
        await fetch(store)
    assert time.monotonic() - began < 4
    await store.close()


async def test_an_endless_body_is_not_read_on(server: FaultyStore, store: S3ObjectStore) -> None:
    server.always = endless()
    found = await fetch(store)
    assert isinstance(found, ObjectMissing) and found.reason == "too_large"


async def test_a_long_announced_body_is_not_read_at_all(server: FaultyStore, store: S3ObjectStore) -> None:
    server.always = stalled(b"x" * (2 << 20), 0)
    began = time.monotonic()
    found = await fetch(store)
    assert isinstance(found, ObjectMissing) and found.reason == "too_large"
    assert time.monotonic() - began < 0.3 and len(server.gets) == 1


async def test_an_overwritten_object_is_fetched_without_the_condition(
    server: FaultyStore, store: S3ObjectStore
) -> None:
    server.script = [error(412, "PreconditionFailed"), whole(b"new", etag="e2")]
    found = await fetch(store)
    assert isinstance(found, FetchedObject) and found.superseded and found.etag == "e2"
    assert "if-match" not in server.gets[1].headers


async def test_overwritten_and_then_deleted_is_gone(server: FaultyStore, store: S3ObjectStore) -> None:
    server.script = [error(412, "PreconditionFailed"), error(404, "NoSuchKey")]
    found = await fetch(store, alternate_key="other")
    assert isinstance(found, ObjectMissing) and found.reason == "gone"


async def test_a_server_that_ignores_if_match_is_seen_through(server: FaultyStore, store: S3ObjectStore) -> None:
    server.always = whole(b"new", etag="e2")
    found = await fetch(store)
    assert isinstance(found, FetchedObject) and found.superseded


@pytest.mark.parametrize(
    "other",
    [
        whole(b"another object", etag="e2"),
        whole(b"x" * ((1 << 20) + 1), etag="e2"),
        whole(b"of no ETag", etag=""),
        error(403, "InvalidObjectState"),
    ],
    ids=["another", "another-too-large", "without-etag", "archived"],
)
@pytest.mark.parametrize("version", [None, "v1"])
async def test_the_other_reading_of_a_key_needs_the_etag_where_if_match_is_ignored(
    server: FaultyStore, store: S3ObjectStore, other: Any, version: str | None
) -> None:
    server.script = [error(404, "NoSuchKey"), other]
    found = await fetch(store, replace(REF, version_id=version), alternate_key="photos/a+b.jpg")
    assert isinstance(found, ObjectMissing) and found.reason == "gone"
    assert [one.headers.get("if-match") for one in server.gets][1:] == ['"e1"']


@pytest.mark.parametrize(("body", "reason"), [(BODY, None), (b"x" * ((1 << 20) + 1), "too_large")])
async def test_the_other_reading_of_a_key_with_its_etag_is_the_upload(
    server: FaultyStore, store: S3ObjectStore, body: bytes, reason: str | None
) -> None:
    server.script = [error(404, "NoSuchKey"), whole(body)]
    found = await fetch(store, alternate_key="photos/a+b.jpg")
    if reason is None:
        assert isinstance(found, FetchedObject) and (found.key, found.superseded) == ("photos/a+b.jpg", False)
    else:
        assert isinstance(found, ObjectMissing) and found.reason == reason


async def test_a_version_is_asked_for_by_its_id(server: FaultyStore, store: S3ObjectStore) -> None:
    server.always = whole(BODY, headers="x-amz-version-id: v/1\r\n")
    found = await fetch(store, replace(REF, version_id="v/1"))
    assert isinstance(found, FetchedObject) and found.version_id == "v/1"
    assert server.gets[0].path.endswith("?versionId=v%2F1") and "if-match" not in server.gets[0].headers


@pytest.mark.parametrize(
    ("answer", "version"),
    [
        (error(404, "NoSuchKey"), None),
        (error(404, "NoSuchVersion"), "v1"),
        (error(405, "MethodNotAllowed"), "v1"),
        (error(404, headers="x-amz-delete-marker: true\r\n"), "v1"),
    ],
)
async def test_what_was_deleted_is_gone(
    server: FaultyStore, store: S3ObjectStore, answer: Any, version: str | None
) -> None:
    server.always = answer
    found = await fetch(store, replace(REF, version_id=version))
    assert isinstance(found, ObjectMissing) and found.reason == "gone" and len(server.gets) == 1


async def test_a_404_that_is_not_from_s3_does_not_make_an_object_gone(
    server: FaultyStore, store: S3ObjectStore
) -> None:
    server.always = error(404)
    with pytest.raises(ObjectUnavailable):
        await fetch(store)


async def test_an_archived_object_is_told_apart_from_a_denied_one(server: FaultyStore, store: S3ObjectStore) -> None:
    server.always = error(403, "InvalidObjectState")
    found = await fetch(store)
    assert isinstance(found, ObjectMissing) and found.reason == "archived"


async def test_a_denied_bucket_is_unavailable_not_full_of_deleted_objects(
    server: FaultyStore, store: S3ObjectStore
) -> None:
    server.always, server.bucket_status = error(403, "AccessDenied"), 403
    with pytest.raises(BucketUnavailable):
        await fetch(store)


async def test_one_denied_object_of_a_readable_bucket_is_forbidden(server: FaultyStore, store: S3ObjectStore) -> None:
    server.script = [whole(BODY), error(403, "AccessDenied")]
    await fetch(store)
    found = await fetch(store)
    assert isinstance(found, ObjectMissing) and found.reason == "forbidden"


async def test_403_where_listing_is_not_allowed_is_how_s3_says_deleted(
    server: FaultyStore, store: S3ObjectStore
) -> None:
    server.script, server.bucket_status = [whole(BODY), error(403, "AccessDenied")], 403
    await fetch(store)
    found = await fetch(store)
    assert isinstance(found, ObjectMissing) and found.reason == "gone"


@pytest.mark.parametrize("code", ["InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"])
async def test_wrong_credentials_make_us_wait_for_an_operator(
    server: FaultyStore, store: S3ObjectStore, code: str
) -> None:
    server.always, server.bucket_status = error(403, code), 403
    with pytest.raises(StoreUnavailable, match=code):
        await fetch(store)
    assert len(server.gets) == 1


async def test_an_object_whose_name_breaks_the_signature_is_its_own_failure(
    server: FaultyStore, store: S3ObjectStore
) -> None:
    server.always = error(403, "SignatureDoesNotMatch")
    with pytest.raises(ObjectUnavailable, match="SignatureDoesNotMatch"):
        await fetch(store)


async def test_keys_that_are_refused_after_they_were_right_make_us_wait(
    server: FaultyStore, store: S3ObjectStore
) -> None:
    server.script, server.bucket_status = [whole(BODY)], 403
    assert isinstance(await fetch(store), FetchedObject)
    server.always = error(403, "SignatureDoesNotMatch")
    with pytest.raises(StoreUnavailable):
        await fetch(store)


async def test_a_store_that_lists_no_buckets_does_not_make_a_failing_bucket_the_stores_fault(
    server: FaultyStore, store: S3ObjectStore
) -> None:
    server.always, server.bucket_status, server.store_status = error(503), 503, 501
    with pytest.raises(BucketUnavailable):
        await fetch(store)


async def test_an_etag_with_letters_of_both_cases_is_compared_and_not_asked_for(
    server: FaultyStore, store: S3ObjectStore
) -> None:
    server.always = whole(BODY, etag="0x8DBeef+/=")
    found = await fetch(store, replace(REF, etag="0x8dbeef+/="))
    assert isinstance(found, FetchedObject) and not found.superseded
    assert "if-match" not in server.gets[0].headers
    found = await fetch(store, replace(REF, etag="0x8dother+/="))
    assert isinstance(found, FetchedObject) and found.superseded


async def test_a_metadata_service_that_is_away_makes_us_wait_and_costs_no_object(server: FaultyStore) -> None:
    answers: list[BaseException | None] = [CredentialRetrievalError(provider="iam-role", error_msg="timed out"), None]

    async def find() -> Any:
        answer = answers.pop(0) if answers else AioCredentials("demo", "demo-secret")
        if isinstance(answer, BaseException):
            raise answer
        return answer

    server.always = whole(BODY)
    store = S3ObjectStore(settings_for(server, access_key="", secret_key=Secret("")), ChainCredentials(find))
    with pytest.raises(StoreUnavailable, match="timed out"):
        await fetch(store)
    with pytest.raises(StoreUnavailable, match="SIGHTLINE_S3_ACCESS_KEY"):
        await fetch(store)
    assert isinstance(await fetch(store), FetchedObject)
    assert "credential=demo/" in server.gets[0].headers["authorization"]
    await store.close()


async def test_a_bucket_in_another_region_is_asked_there(server: FaultyStore, store: S3ObjectStore) -> None:
    server.script = [error(301, "PermanentRedirect", "x-amz-bucket-region: eu-west-1\r\n"), whole(BODY)]
    assert isinstance(await fetch(store), FetchedObject)
    assert "/eu-west-1/s3/" in server.gets[1].headers["authorization"]


async def test_many_failures_at_once_cause_few_probes(server: FaultyStore, store: S3ObjectStore) -> None:
    server.always = error(503)
    results = await asyncio.gather(*(fetch(store) for _ in range(20)), return_exceptions=True)
    assert all(isinstance(result, ObjectUnavailable) for result in results)
    probes = [one for one in server.requests if one.method == "HEAD"]
    assert 1 <= len(probes) <= 3


async def test_a_cancelled_fetch_leaves_the_store_usable(server: FaultyStore, store: S3ObjectStore) -> None:
    server.script = [stalled(BODY, 10)]
    task = asyncio.create_task(fetch(store))
    await eventually(lambda: len(server.gets) == 1, every_seconds=0.005)
    task.cancel()
    await asyncio.wait([task])
    server.always = whole(BODY)
    assert isinstance(await fetch(store), FetchedObject)


async def test_no_more_than_the_allowed_number_of_objects_is_fetched_at_once(server: FaultyStore) -> None:
    store = S3ObjectStore(settings_for(server, concurrency=3, read_timeout_seconds=5.0))
    at_once = [0, 0]

    async def counted(writer: asyncio.StreamWriter) -> None:
        at_once[0] += 1
        at_once[1] = max(at_once)
        await asyncio.sleep(0.01)
        at_once[0] -= 1
        await whole(BODY)(writer)

    server.always = counted
    await asyncio.gather(*(fetch(store) for _ in range(15)))
    assert at_once[1] == 3
    await store.close()
