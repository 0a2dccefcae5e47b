"""The object store over HTTP: signed GETs with aiohttp on the hot path, aiobotocore for credentials and listing.

docs/adr/0004-hot-get.md explains the two libraries. app/systems/s3/answers.py interprets each answer of the store,
app/systems/s3/health.py judges its health.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import aiohttp
from yarl import URL

from app.domain.object_names import (
    keeps_its_case,
    key_fault,
    never_asked_for,
    normalised_etag,
    reference_fault,
    version_fault,
)
from app.errors import BadReference, BucketUnavailable, NoSuchBucket, ObjectUnavailable, StoreUnavailable
from app.ports.objects import FetchedObject, ListedObject, ObjectMissing, ObjectRef
from app.settings import S3Settings
from app.systems.foreign_failures import HTTP_FAILURES, aws_failures
from app.systems.s3.answers import Answer, Denied, Failed, Gone, Overwritten, Refused, cut_off, read_answer
from app.systems.s3.client import s3_client
from app.systems.s3.credentials import ChainCredentials
from app.systems.s3.health import BucketHealth, Judgement
from app.systems.s3.requests import SignedRequests

_CHUNK_BYTES = 256 * 1024
# An error document has a few hundred bytes; a longer body is not one.
_MAX_ERROR_BYTES = 64 * 1024
# Back-off before attempt n of one object: full jitter up to this times 2^(n-1), so that retries do not synchronise.
_BACKOFF_SECONDS = 0.2
_MAX_BACKOFF_SECONDS = 3.0
# A 403 counts as denied to one object only if another object of its bucket was read in this time.
_READABLE_SECONDS = 600.0
_T = TypeVar("_T")
_NOT_THERE_EITHER = "404 under its key, not its ETag under the other reading of it"


@dataclass(frozen=True, slots=True)
class _Body:
    """A whole body within the limit."""

    content: bytes
    etag: str | None
    version_id: str | None


@dataclass(frozen=True, slots=True)
class _TooLarge:
    """A body beyond the limit; the rest is not read."""

    detail: str
    etag: str | None


class S3ObjectStore:
    """ObjectStore on S3 or a compatible server. Belongs to the event loop that first uses it; every wait is bounded."""

    def __init__(self, settings: S3Settings, chain: ChainCredentials | None = None) -> None:
        self._settings = settings
        self._requests = SignedRequests(settings, chain or ChainCredentials())
        self._health = BucketHealth(self._probe_bucket, self._probe_store)
        self._slots = asyncio.Semaphore(settings.concurrency)

    async def fetch(
        self, ref: ObjectRef, *, max_bytes: int, alternate_key: str | None = None
    ) -> FetchedObject | ObjectMissing:
        """See ObjectStore. A fetch waits for one of `concurrency` slots first; its time limit counts from then."""
        if (fault := reference_fault(ref.bucket, ref.key, ref.version_id, ref.etag)) is not None:
            raise BadReference(*fault)
        if (why := never_asked_for(ref.key)) is not None:
            return ObjectMissing("forbidden", why)
        if alternate_key is not None and (key_fault(alternate_key) or never_asked_for(alternate_key)):
            alternate_key = None
        async with self._slots:
            began = time.monotonic()
            try:
                async with asyncio.timeout(self._settings.object_timeout_seconds):
                    return await self._fetch(ref, max_bytes, alternate_key, began)
            except TimeoutError as error:
                text = f"no whole body of {ref.bucket}/{ref.key} in {self._settings.object_timeout_seconds:g} s"
                raise await self._blame(ref, began, text) from error

    async def _fetch(
        self, ref: ObjectRef, max_bytes: int, alternate_key: str | None, began: float
    ) -> FetchedObject | ObjectMissing:
        condition = None if ref.version_id else ref.etag
        key, superseded, looked_elsewhere = ref.key, False, False
        while True:
            answer = await self._get(ref, key, condition, max_bytes, began)
            match answer:
                case _Body() | _TooLarge() | Refused() if looked_elsewhere and _etag_of(answer) != ref.etag:
                    # Only an equal ETag confirms the other reading, whether the store supports If-Match or not.
                    self._health.answered(ref.bucket)
                    return ObjectMissing("gone", _NOT_THERE_EITHER)
                case _Body():
                    self._health.succeeded(ref.bucket)
                    if ref.etag and answer.etag and not ref.version_id:
                        # Some servers ignore If-Match, so the ETag of the answer decides.
                        superseded = answer.etag != ref.etag
                    return FetchedObject(answer.content, answer.etag, answer.version_id, key, superseded)
                case _TooLarge():
                    self._health.succeeded(ref.bucket)
                    return ObjectMissing("too_large", answer.detail)
                case Overwritten() if looked_elsewhere:
                    # The other reading of the key is another object, so the upload itself is gone.
                    self._health.answered(ref.bucket)
                    return ObjectMissing("gone", _NOT_THERE_EITHER)
                case Overwritten():
                    condition, superseded = None, True
                case Gone() if alternate_key is not None and not looked_elsewhere and ref.etag and not superseded:
                    key, looked_elsewhere, condition = alternate_key, True, ref.etag
                case Gone():
                    self._health.answered(ref.bucket)
                    return ObjectMissing("gone", answer.detail)
                case Refused():
                    self._health.answered(ref.bucket)
                    return ObjectMissing(answer.reason, answer.detail)
                case Denied():
                    return await self._denied(ref, answer, began)
                case Failed():
                    raise await self._blame(ref, began, answer.detail, answer.scope)

    async def _get(
        self, ref: ObjectRef, key: str, condition: str | None, max_bytes: int, began: float
    ) -> _Body | _TooLarge | Answer:
        """GET until a retry would not change the answer, at most `attempts` times."""
        return await self._tried(lambda: self._get_once(ref, key, condition, max_bytes))

    async def _tried(self, once: Callable[[], Awaitable[_T | Failed]]) -> _T | Failed:
        """Return the first answer that a retry would not change, or the last failure after `attempts` attempts."""
        failed = Failed("not asked")
        for attempt in range(1, max(1, self._settings.attempts) + 1):
            if attempt > 1:
                limit = min(_BACKOFF_SECONDS * 2 ** (attempt - 1), _MAX_BACKOFF_SECONDS)
                await asyncio.sleep(random.uniform(0, limit))
            answer = await once()
            if not isinstance(answer, Failed):
                return answer
            failed = answer
            if not failed.retry:
                break
        return failed

    async def _get_once(
        self, ref: ObjectRef, key: str, condition: str | None, max_bytes: int
    ) -> _Body | _TooLarge | Answer:
        # An ETag whose case was changed would never match; the ETag of the answer shows whether it is the right object.
        headers = {"if-match": f'"{condition}"'} if condition and keeps_its_case(condition) else {}
        query = f"versionId={quote(ref.version_id, safe='-._~')}" if ref.version_id else ""
        try:
            async with await self._requests.send("GET", ref.bucket, key, query, headers) as response:
                if response.status == 200:
                    return await _read_body(response, max_bytes)
                return await self._refusal(response, ref.bucket, versioned=ref.version_id is not None)
        except HTTP_FAILURES as error:
            return cut_off(error)

    async def _refusal(self, response: aiohttp.ClientResponse, bucket: str, *, versioned: bool) -> Answer:
        """Return the meaning of an unexpected answer."""
        text = (await response.content.read(_MAX_ERROR_BYTES)).decode("utf-8", "replace")
        return self._moved(response, bucket) or read_answer(
            response.status, text, response.headers, versioned=versioned
        )

    def _moved(self, response: aiohttp.ClientResponse, bucket: str) -> Failed | None:
        """Return a failure, to be retried, if the answer says that the bucket is in another region."""
        region = response.headers.get("x-amz-bucket-region")
        if region and self._requests.lies_in(bucket, region):
            return Failed(f"the bucket lies in region {region}")
        return None

    async def _denied(self, ref: ObjectRef, answer: Denied, began: float) -> ObjectMissing:
        """Distinguish a denied object, a deleted object, and a denied bucket."""
        judgement = await self._health.judge(ref.bucket, began, ask=True)
        readable = self._health.succeeded_within(ref.bucket, _READABLE_SECONDS)
        if judgement is Judgement.OBJECT and readable:
            # The bucket may be listed, so a deleted object would get 404; this object is denied.
            return ObjectMissing("forbidden", answer.detail)
        if judgement is Judgement.BUCKET_DENIED and readable:
            # Without s3:ListBucket a deleted object gets 403; other objects of the bucket are readable.
            return ObjectMissing("gone", f"{answer.detail} where listing is not allowed")
        if judgement is Judgement.OBJECT:
            # Nothing was readable recently, so a wrong bucket policy is more likely than one denied object.
            judgement = Judgement.BUCKET_DENIED
        raise _error(judgement, ref, answer.detail)

    async def _blame(
        self, ref: ObjectRef, began: float, detail: str, scope: str = "unknown"
    ) -> ObjectUnavailable | BucketUnavailable | StoreUnavailable:
        """Return the error for an object that could not be read: of the object, its bucket or the store."""
        if scope == "bucket":
            return NoSuchBucket(f"{ref.bucket}: {detail}")
        if scope == "credentials":
            return StoreUnavailable(detail)
        judgement = await self._health.judge(ref.bucket, began)
        if scope == "signature" and judgement is not Judgement.OBJECT:
            # Wrong keys: wait for an operator. But if another object was read in the meantime, or the bucket accepts
            # the keys, they are right: a server or proxy rewrites this object's name. It must not block the lane.
            return StoreUnavailable(detail)
        return _error(judgement, ref, detail)

    async def _probe_bucket(self, bucket: str) -> int | None:
        """Return the status of a HEAD of `bucket`; None without an answer."""
        return await self._probe("HEAD", bucket, "")

    async def _probe_store(self) -> int | None:
        return await self._probe("GET", "", "")

    async def _probe(self, method: str, bucket: str, key: str) -> int | None:
        limit = self._settings.connect_timeout_seconds + self._settings.read_timeout_seconds
        try:
            async with asyncio.timeout(limit):
                async with await self._requests.send(method, bucket, key, "", {}) as response:
                    return response.status
        except HTTP_FAILURES:
            return None
        except StoreUnavailable:
            return None

    async def list(self, bucket: str, prefix: str, start_after: str = "") -> AsyncIterator[ListedObject]:
        """See ObjectStore. Raises BucketUnavailable or StoreUnavailable."""
        from botocore.exceptions import ClientError

        try:
            async with s3_client(self._settings) as client:
                after = {"StartAfter": start_after} if start_after else {}
                pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix, **after)
                async for page in pages:
                    for row in page.get("Contents", ()):
                        yield ListedObject(
                            bucket=bucket,
                            key=row["Key"],
                            etag=normalised_etag(row.get("ETag")),
                            size_bytes=int(row["Size"]),
                            modified_ms=int(row["LastModified"].timestamp() * 1000),
                        )
        except ClientError as error:
            raise BucketUnavailable(f"cannot list {bucket}: {error}") from error
        except aws_failures() as error:
            raise StoreUnavailable(f"cannot list {bucket}: {type(error).__name__}: {error}") from error

    def url_of(self, bucket: str, key: str) -> URL:
        """Return the address of an object."""
        return self._requests.url_of(bucket, key)

    async def close(self) -> None:
        """Release connections; a later call opens them again."""
        await self._requests.close()


def _etag_of(answer: _Body | _TooLarge | Refused) -> str | None:
    """Return the ETag of `answer`; a refusal has none."""
    return None if isinstance(answer, Refused) else answer.etag


async def _read_body(response: aiohttp.ClientResponse, max_bytes: int) -> _Body | _TooLarge:
    """Return the whole body; a body shorter than its length raises aiohttp.ClientPayloadError."""
    etag = normalised_etag(response.headers.get("ETag"))
    announced = response.content_length
    if announced is not None and announced > max_bytes:
        response.close()
        return _TooLarge(f"{announced} bytes, at most {max_bytes}", etag)
    parts: list[bytes] = []
    total = 0
    async for part in response.content.iter_chunked(_CHUNK_BYTES):
        total += len(part)
        if total > max_bytes:
            response.close()
            return _TooLarge(f"more than {max_bytes} bytes", etag)
        parts.append(part)
    if announced is not None and total != announced:
        raise aiohttp.ClientPayloadError(f"{total} of {announced} bytes")
    version_id = response.headers.get("x-amz-version-id")
    if version_id is not None and version_fault(version_id) is not None:
        version_id = None  # a header may contain any bytes; a record contains text
    return _Body(parts[0] if len(parts) == 1 else b"".join(parts), etag, version_id)


def _error(
    judgement: Judgement, ref: ObjectRef, detail: str
) -> ObjectUnavailable | BucketUnavailable | StoreUnavailable:
    match judgement:
        case Judgement.OBJECT:
            return ObjectUnavailable(f"{ref.bucket}/{ref.key}: {detail}")
        case Judgement.BUCKET | Judgement.BUCKET_DENIED:
            return NoSuchBucket(f"{ref.bucket}: {detail}")
        case Judgement.STORE:
            return StoreUnavailable(detail)
