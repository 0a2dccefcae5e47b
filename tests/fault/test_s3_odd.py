"""Odd names and odd answers: whatever they are, a fetch ends in bytes, in a reason or in one of our errors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.adapters.avro import Codec
from app.adapters.s3 import S3ObjectStore
from app.adapters.s3_write import S3WriteStore
from app.domain.object_names import may_be_host, reference_fault
from app.errors import BadReference, BucketUnavailable, ObjectUnavailable
from app.ports import FetchedObject, ObjectMissing, ObjectRef
from app.settings import S3Settings, Secret
from tests.support.faulty_store import Answer, FaultyStore, whole

BODY = b"a picture"
REF = ObjectRef("bucket", "photo.jpg", None, "e1", len(BODY))
LIMIT = 8_000
EXAMPLES = settings(max_examples=300, deadline=None)
# What a request has beside If-Match. Any other name came out of a value.
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


class Rig:
    """One server and one store for all examples of a test, on one event loop."""

    def __init__(self, runner: asyncio.Runner, server: FaultyStore) -> None:
        self.runner = runner
        self.server = server
        self.settings = S3Settings(
            endpoint=server.endpoint,
            access_key="demo",
            secret_key=Secret("demo-secret"),
            connect_timeout_seconds=1.0,
            read_timeout_seconds=1.0,
            object_timeout_seconds=5.0,
            attempts=1,
        )

    def fetch(self, ref: ObjectRef, alternate_key: str | None = None) -> FetchedObject | ObjectMissing:
        async def once() -> FetchedObject | ObjectMissing:
            async with self.store() as store:
                return await store.fetch(ref, max_bytes=LIMIT, alternate_key=alternate_key)

        return self.runner.run(once())

    @asynccontextmanager
    async def store(self) -> AsyncIterator[S3WriteStore]:
        made = S3WriteStore(self.settings)
        try:
            yield made
        finally:
            await made.close()


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
    assert isinstance(found, FetchedObject) and found.body == BODY
    (request,) = rig.server.requests
    path, _, query = request.path.partition("?")
    assert unquote(path, errors="strict") == f"/{bucket}/{key}"
    assert unquote(query) == (f"versionId={version_id}" if version_id else "")
    assert set(request.headers) <= HEADERS
    assert request.headers["host"] == rig.settings.endpoint.removeprefix("http://")


@given(st.text(st.characters(codec="ascii"), min_size=1, max_size=70) | NASTY, st.text(min_size=1, max_size=20))
def test_on_aws_a_bucket_stays_below_the_domain_of_s3(bucket: str, key: str) -> None:
    if reference_fault(bucket, key, None, None) is not None:
        return
    url = S3ObjectStore(S3Settings(region="eu-west-1")).url_of(bucket, key)
    domain = "s3.eu-west-1.amazonaws.com"
    if may_be_host(bucket):
        assert url.host == f"{bucket}.{domain}" and unquote(url.raw_path) == f"/{key}"
    else:
        assert url.host == domain and unquote(url.raw_path) == f"/{bucket}/{key}"
    assert (url.scheme, url.user, url.raw_query_string, url.raw_fragment) == ("https", None, "", "")


# --- answers ---

CODES = st.sampled_from(["NoSuchKey", "InternalError", "AccessDenied", "PermanentRedirect", "", "\u00e4", "A" * 300])
STATUS_LINES = st.sampled_from(
    [
        b"HTTP/1.1 %d X" % status
        for status in (200, 201, 204, 206, 301, 304, 307, 400, 401, 404, 412, 416, 500, 503, 999)
    ]
    + [b"HTTP/1.1 200", b"HTTP/9.9 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 99999999999999 X", b"HTTP/1.1 -1 X"]
    + [
        b"HTTP/1.1 100 Continue",
        b"HTTP/1.1 101 Switching Protocols",
        b"ICY 200 OK",
        b"",
        b"\x16\x03\x01\x02",
        b"\xff" * 9,
    ]
    + [b"HTTP/1.1 200 " + b"x" * 9_000, b"HTTP/1.1 200 \xff\xfe", b"HTTP/1.1  200 OK", b"220 ftp.example ready"]
)
HEADER_LINES = st.sampled_from(
    [
        b"content-length: " + value
        for value in (b"9", b"0", b"3", b"99", b"-1", b"abc", b"9" * 30, b"", b"+9", b"0x9", b"9, 9")
    ]
    + [b"transfer-encoding: " + value for value in (b"chunked", b"gzip", b"chunked, chunked", b"xchunked", b"\xff")]
    + [
        b"etag: " + value
        for value in (b'"e1"', b'"\xff\xfe"', b"\xed\xb0\x80", b'""', b"", b'W/"e1"', b"e1\x0be2", b"e" * 900)
    ]
    + [b"x-amz-version-id: " + value for value in (b"v1", b"\xff", b"\xc3\xa4", b"", b"v" * 5_000)]
    + [b"x-amz-bucket-region: " + value for value in (b"eu-west-1", b"evil.example/", b"\xff", b"a b", b"")]
    + [b"location: " + value for value in (b"http://127.0.0.1:1/", b"http://[", b"//", b"\xff", b"file:///etc/passwd")]
    + [b"content-encoding: " + value for value in (b"gzip", b"br", b"zstd", b"\xff")]
    + [b"content-type: text/xml; charset=" + value for value in (b"utf-7", b"nonsense", b"\xff")]
    + [b"set-cookie: " + value for value in (b"a=b; expires=nonsense", b"\xff=\xff; max-age=x", b"[]=,;")]
    + [
        b"no colon here",
        b": empty",
        b" folded",
        b"bad name: x",
        b"nul: \0",
        b"long: " + b"x" * 9_000,
        b"connection: upgrade",
    ]
    + [b"date: nonsense", b"retry-after: never", b"content-range: bytes 9-1/x", b"connection: \xff", b"x" * 9_000]
)
BODIES = (
    st.sampled_from(
        [
            *(BODY, b"", b"9\r\na picture\r\n0\r\n\r\n", b"9\r\na pic", b"zz\r\n", b"-1\r\n\r\n", b"F" * 40 + b"\r\nx"),
            b"9;" + b"x" * 9_000 + b"\r\na picture\r\n",
            b"9\na picture\n0\n\n",
            b"0\r\nbad trailer\xff\r\n\r\n",
            b"\xff" * 9_000,
        ]
    )
    | CODES.map(lambda code: f"<Error><Code>{code}</Code></Error>".encode())
    | st.binary(max_size=40)
)


def raw(*parts: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"".join(parts))

    return answer


ANSWERS = st.builds(
    lambda status, headers, body: raw(status, b"\r\n", *(line + b"\r\n" for line in headers), b"\r\n", body),
    STATUS_LINES,
    st.lists(HEADER_LINES, max_size=5),
    BODIES,
) | st.binary(max_size=60).map(raw)


def check_text(*texts: str | None) -> None:
    """What goes into a record must be text that UTF-8 can hold."""
    for text in texts:
        if text is not None:
            assert text.encode().decode() == text


@EXAMPLES
@given(ANSWERS, st.none() | st.just("v1"))
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
@given(ANSWERS)
def test_no_answer_to_a_writer_ends_in_anything_but_a_result_or_the_objects_own_failure(rig: Rig, answer: Any) -> None:
    async def once() -> None:
        async with rig.store() as store:
            await store.put_new("bucket", "file", b"x", {"a": "b"})

    rig.server.always = answer
    try:
        rig.runner.run(once())
    except (ObjectUnavailable, BucketUnavailable) as error:
        check_text(str(error))


def test_the_codec_takes_what_odd_headers_leave(rig: Rig) -> None:
    from tests.support.outcomes import prediction

    rig.server.always = raw(b'HTTP/1.1 200 X\r\ncontent-length: 1\r\netag: "\xff"\r\nx-amz-version-id: \xff\r\n\r\nx')
    found = rig.fetch(REF)
    assert isinstance(found, FetchedObject) and (found.etag, found.version_id) == (None, None)
    Codec().encode(prediction(etag=found.etag, version_id=found.version_id))
