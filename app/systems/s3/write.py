"""Write-once objects: PUT with `If-None-Match: *`, and HEAD for metadata.

Separate from the reading store, because only the archive writes. Answers are interpreted as those of a GET.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from app.errors import BucketUnavailable
from app.ports.objects import ObjectRef
from app.systems.foreign_failures import HTTP_FAILURES
from app.systems.s3.answers import Answer, Denied, Failed, Gone, Overwritten, Refused, cut_off
from app.systems.s3.objects import S3ObjectStore

_META: Final = "x-amz-meta-"


class S3WriteStore(S3ObjectStore):
    """WriteOnceStore on S3 or a compatible server. Belongs to the event loop that first uses it."""

    async def put_new(self, bucket: str, key: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        """See WriteOnceStore. An attempt whose answer was lost may have stored the object: the next one says False."""
        answer = await self._until_answered("PUT", bucket, key, body, metadata)
        return not isinstance(answer, Overwritten)

    async def metadata(self, bucket: str, key: str) -> Mapping[str, str] | None:
        """See WriteOnceStore."""
        answer = await self._until_answered("HEAD", bucket, key, b"", {})
        return None if isinstance(answer, Overwritten | Gone) else answer

    async def _until_answered(
        self, method: str, bucket: str, key: str, body: bytes, metadata: Mapping[str, str]
    ) -> Mapping[str, str] | Overwritten | Gone:
        ref, began = ObjectRef(bucket, key, None, None, None), time.monotonic()
        answer: Mapping[str, str] | Answer
        try:
            async with asyncio.timeout(self._settings.object_timeout_seconds):
                answer = await self._tried(lambda: self._once(method, bucket, key, body, metadata))
        except TimeoutError as error:
            text = f"{method} of {bucket}/{key} not answered in {self._settings.object_timeout_seconds:g} s"
            raise await self._blame(ref, began, text) from error
        match answer:
            case Failed():
                raise await self._blame(ref, began, f"{method}: {answer.detail}", answer.scope)
            case Denied() | Refused():
                raise BucketUnavailable(f"{method} {bucket}/{key}: {answer.detail}")
            case _:
                self._health.answered(bucket)
                return answer

    async def _once(
        self, method: str, bucket: str, key: str, body: bytes, metadata: Mapping[str, str]
    ) -> Mapping[str, str] | Answer:
        headers = {"if-none-match": "*"} if method == "PUT" else {}
        try:
            async with await self._requests.send(
                method, bucket, key, "", headers, body=body, metadata=metadata
            ) as response:
                if response.status in (200, 201, 204):
                    return {
                        name.lower().removeprefix(_META): value
                        for name, value in response.headers.items()
                        if name.lower().startswith(_META)
                    }
                if moved := self._moved(response, bucket):
                    return moved
                if method == "HEAD" and response.status == 404:
                    # A HEAD has no body that would say more; the object was listed or refused just before.
                    return Gone("404")
                # S3 answers 409 to concurrent conditional writes: Failed, to be retried.
                answer = await self._refusal(response, bucket, versioned=False)
                return Failed(answer.detail) if method == "PUT" and isinstance(answer, Gone) else answer
        except HTTP_FAILURES as error:
            return cut_off(error)
