"""Objects that a caller references instead of sending bytes. Only objects that the upload filter admits are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from app.domain.filters import UploadFilter
from app.domain.images import Rejection
from app.domain.outcomes import missing_reason
from app.errors import BadReference, NoSuchBucket
from app.ports.objects import ObjectMissing, ObjectRef, ObjectStore

NOT_SERVED: Final = "bucket_not_served"
NO_SUCH_OBJECT: Final = "no_such_object"


@dataclass(frozen=True, slots=True)
class Absent:
    """Absence of an object, by `code`: `bucket_not_served` or `no_such_object`."""

    code: str
    detail: str


class ReferencedObjects:
    """Reader of referenced objects, up to `max_bytes` each."""

    def __init__(self, store: ObjectStore, admitted: UploadFilter, max_bytes: int) -> None:
        self._store = store
        self._admitted = admitted
        self.max_bytes = max_bytes

    async def read(self, ref: ObjectRef) -> bytes | Rejection | Absent:
        """Return the bytes; exactly that version or ETag if the reference names one.

        Raises ObjectUnavailable, BucketUnavailable or StoreUnavailable.
        """
        if not self._admitted.admits(ref.bucket, ref.key):
            return Absent(NOT_SERVED, "this bucket and key are not among those whose uploads are scored")
        try:
            fetched = await self._store.fetch(ref, max_bytes=self.max_bytes)
        except NoSuchBucket:
            # In the stream a missing bucket may reappear; here it is a client's spelling error.
            return Absent(NO_SUCH_OBJECT, "there is no such bucket")
        except BadReference as error:
            return Absent(NO_SUCH_OBJECT, f"there is no such object: {error.detail}")
        if isinstance(fetched, ObjectMissing):
            reason = missing_reason(fetched.reason)
            if reason is None:
                return Absent(NO_SUCH_OBJECT, f"there is no such object: {fetched.detail}")
            return Rejection(reason, fetched.detail)
        if fetched.superseded:
            return Absent(NO_SUCH_OBJECT, "another object lies there, with another ETag")
        return fetched.body
