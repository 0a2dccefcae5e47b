"""The object store's twin in memory: same answers, and failures that a test asks for."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from app.domain.object_names import key_fault, never_asked_for, reference_fault
from app.errors import BadReference, BucketUnavailable, NoSuchBucket, ObjectUnavailable, StoreUnavailable
from app.ports.objects import FetchedObject, ListedObject, ObjectMissing, ObjectRef


@dataclass(frozen=True, slots=True)
class _Stored:
    body: bytes
    etag: str
    version_id: str | None
    modified_ms: int


@dataclass(frozen=True, slots=True)
class PutFailure:
    """An answer that a writer gets instead of the true one; `stored`: only the answer was lost."""

    error: Retryable
    stored: bool


class MemoryObjectStore:
    """ObjectStore and WriteOnceStore over dictionaries; a `versioned` one keeps what was put over, by version.

    `failures` is consulted first at each fetch: errors to raise or answers to give, in turn. Fetches wait for `gate`.
    `put_failures` and `put_gate` are the same for `put_new`; `ignores_conditions` makes it a store that replaces.
    """

    def __init__(self, *, versioned: bool = False) -> None:
        self.buckets: dict[str, dict[str, _Stored]] = {}
        self.failures: list[Retryable | ObjectMissing] = []
        self.fetches: list[tuple[str, str]] = []
        self.gate: asyncio.Event | None = None
        self.put_failures: list[PutFailure | None] = []
        self.put_gate: asyncio.Event | None = None
        self.ignores_conditions = False
        self._metadata: dict[tuple[str, str], dict[str, str]] = {}
        self._versioned = versioned
        self._versions: dict[tuple[str, str, str], _Stored] = {}
        self._numbers = itertools.count(1)

    def create_bucket(self, bucket: str) -> None:
        """Make an empty bucket."""
        self.buckets.setdefault(bucket, {})

    def put(self, bucket: str, key: str, body: bytes) -> ObjectRef:
        """Store an object and return how an event would name it."""
        number = next(self._numbers)
        version_id = f"v{number}" if self._versioned else None
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        stored = _Stored(body, etag, version_id, number * 1000)
        self.buckets.setdefault(bucket, {})[key] = stored
        if version_id is not None:
            self._versions[bucket, key, version_id] = stored
        return ObjectRef(bucket, key, version_id, etag, len(body))

    def delete(self, bucket: str, key: str) -> None:
        """Delete the object under a key; its versions stay."""
        self.buckets.get(bucket, {}).pop(key, None)

    async def fetch(
        self, ref: ObjectRef, *, max_bytes: int, alternate_key: str | None = None
    ) -> FetchedObject | ObjectMissing:
        """See ObjectStore."""
        if (fault := reference_fault(ref.bucket, ref.key, ref.version_id, ref.etag)) is not None:
            raise BadReference(*fault)
        if (why := never_asked_for(ref.key)) is not None:
            return ObjectMissing("forbidden", why)
        if alternate_key is not None and (key_fault(alternate_key) or never_asked_for(alternate_key)):
            alternate_key = None
        self.fetches.append((ref.bucket, ref.key))
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            failure = self.failures.pop(0)
            if isinstance(failure, ObjectMissing):
                return failure
            raise failure
        if ref.bucket not in self.buckets:
            raise NoSuchBucket(f"{ref.bucket}: no such bucket")
        key, superseded = ref.key, False
        found = self._find(ref, key)
        if found is None and alternate_key is not None and ref.etag:
            other = self._find(ref, alternate_key)
            if other is not None and other.etag == ref.etag:
                key, found = alternate_key, other
        if found is None:
            return ObjectMissing("gone", "404 NoSuchKey")
        if ref.version_id is None and ref.etag is not None:
            superseded = found.etag != ref.etag
        if len(found.body) > max_bytes:
            return ObjectMissing("too_large", f"{len(found.body)} bytes, at most {max_bytes}")
        return FetchedObject(found.body, found.etag, found.version_id, key, superseded)

    def _find(self, ref: ObjectRef, key: str) -> _Stored | None:
        if ref.version_id is not None:
            return self._versions.get((ref.bucket, key, ref.version_id))
        return self.buckets[ref.bucket].get(key)

    async def list(self, bucket: str, prefix: str, start_after: str = "") -> AsyncIterator[ListedObject]:
        """See ObjectStore."""
        if bucket not in self.buckets:
            raise BucketUnavailable(f"{bucket}: no such bucket")
        for key, stored in sorted(self.buckets[bucket].items(), key=lambda entry: entry[0].encode()):
            if key.startswith(prefix) and key > start_after:
                yield ListedObject(bucket, key, stored.etag, len(stored.body), stored.modified_ms)

    async def put_new(self, bucket: str, key: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        """See WriteOnceStore."""
        if self.put_gate is not None:
            await self.put_gate.wait()
        await asyncio.sleep(0)
        failure = self.put_failures.pop(0) if self.put_failures else None
        if failure is not None and not failure.stored:
            raise failure.error
        if bucket not in self.buckets:
            raise BucketUnavailable(f"{bucket}: no such bucket")
        new = key not in self.buckets[bucket]
        if new or self.ignores_conditions:
            self.put(bucket, key, body)
            self._metadata[bucket, key] = dict(metadata)
        if failure is not None:
            raise failure.error
        return new or self.ignores_conditions

    async def metadata(self, bucket: str, key: str) -> Mapping[str, str] | None:
        """See WriteOnceStore."""
        await asyncio.sleep(0)
        if bucket not in self.buckets:
            raise BucketUnavailable(f"{bucket}: no such bucket")
        return self._metadata.get((bucket, key), {}) if key in self.buckets[bucket] else None

    async def close(self) -> None:
        """See ObjectStore."""


Retryable = ObjectUnavailable | BucketUnavailable | StoreUnavailable
