"""The object store: read, list and write objects."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object as an event named it. `etag` is normalised (no quotes, lower case)."""

    bucket: str
    key: str
    version_id: str | None
    etag: str | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class FetchedObject:
    """The bytes of an object and what the store said of them. `superseded`: not the version that was asked for."""

    body: bytes
    etag: str | None
    version_id: str | None
    key: str
    superseded: bool


@dataclass(frozen=True, slots=True)
class ObjectMissing:
    """The object cannot be read and never will be: `gone` (deleted), `archived`, `too_large`, `forbidden`."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One row of a bucket listing."""

    bucket: str
    key: str
    etag: str | None
    size_bytes: int
    modified_ms: int


class ObjectStore(Protocol):
    """Reads objects; implementations bound every wait and retry within S3Settings."""

    async def fetch(
        self, ref: ObjectRef, *, max_bytes: int, alternate_key: str | None = None
    ) -> FetchedObject | ObjectMissing:
        """Return the object's bytes, or why there are none.

        With a version: exactly that version. Without: If-Match on the ETag; when it was overwritten, what is there now,
        marked superseded. On a 404, and only then, `alternate_key` is tried once and accepted if its ETag matches.
        A body longer than `max_bytes` is not read on: ObjectMissing(`too_large`). A key that is never asked for
        (app/domain/object_names.py) is ObjectMissing(`forbidden`).

        Raises BadReference, before it asks, for names against the rules of app/domain/object_names.py. Raises
        ObjectUnavailable, BucketUnavailable or StoreUnavailable after the attempts of the settings. Raises nothing
        else, whatever the names and the answers are.
        """
        ...

    def list(self, bucket: str, prefix: str) -> AsyncIterator[ListedObject]:
        """Yield the objects below `prefix`, in key order."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class WriteOnceStore(ObjectStore, Protocol):
    """An object store in which an object, once written, stays as it is: of rival writers exactly one wins."""

    async def put_new(self, bucket: str, key: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Store an object under a key that holds none and return True; return False where one is there already.

        After True the object is durable. False may also mean that an earlier attempt of ours stored it. `metadata` has
        names in lower case and ASCII values. Raises BucketUnavailable, ObjectUnavailable or StoreUnavailable after
        the attempts of the settings; the object may then be there all the same.
        """
        ...

    def list(self, bucket: str, prefix: str, start_after: str = "") -> AsyncIterator[ListedObject]:
        """Yield the objects below `prefix` whose keys come after `start_after`, in key order."""
        ...

    async def metadata(self, bucket: str, key: str) -> Mapping[str, str] | None:
        """Return what `put_new` was given beside the body; None where there is no such object. Raises as `put_new`."""
        ...
