"""Objects that a caller names instead of sending their bytes: only where uploads are ours, only what was named."""

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
    """Why there are no bytes, though nothing is wrong with a picture: `bucket_not_served`, `no_such_object`."""

    code: str
    detail: str


class ReferencedObjects:
    """Reads objects by reference, at most `max_bytes` of each."""

    def __init__(self, store: ObjectStore, admitted: UploadFilter, max_bytes: int) -> None:
        self._store = store
        self._admitted = admitted
        self.max_bytes = max_bytes

    async def read(self, ref: ObjectRef) -> bytes | Rejection | Absent:
        """Return the bytes of exactly that version or ETag, where the reference names one.

        Raises ObjectUnavailable, BucketUnavailable or StoreUnavailable.
        """
        if not self._admitted.admits(ref.bucket, ref.key):
            return Absent(NOT_SERVED, "this bucket and key are not among those whose uploads are scored")
        try:
            fetched = await self._store.fetch(ref, max_bytes=self.max_bytes)
        except NoSuchBucket:
            # An upload's bucket may come back; a client's misspelt one does not.
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
