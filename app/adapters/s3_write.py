"""Objects that are written once: PUT with `If-None-Match: *`, and what the object tells of itself.

Beside the reading store, because only the archive writes; each answer of the store is read as for a GET.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Mapping
from typing import Final

import aiohttp

from app.adapters.s3 import S3ObjectStore
from app.adapters.s3_answers import Denied, Failed, Gone, Overwritten, Refused, read_answer
from app.errors import BucketUnavailable
from app.ports import ObjectRef

_MAX_ERROR_BYTES: Final = 64 * 1024
_SHORTENED_DETAIL: Final = 300
# Back-off before attempt n: full jitter up to this times 2^(n-1).
_BACKOFF_SECONDS: Final = 0.2
_MAX_BACKOFF_SECONDS: Final = 3.0
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
        failed = Failed("not asked")
        try:
            async with asyncio.timeout(self._settings.object_timeout_seconds):
                for attempt in range(1, max(1, self._settings.attempts) + 1):
                    if attempt > 1:
                        limit = min(_BACKOFF_SECONDS * 2 ** (attempt - 1), _MAX_BACKOFF_SECONDS)
                        await asyncio.sleep(random.uniform(0, limit))
                    answer = await self._once(method, bucket, key, body, metadata)
                    match answer:
                        case Failed():
                            failed = answer
                            if not failed.retry:
                                break
                        case Denied() | Refused():
                            raise BucketUnavailable(f"{method} {bucket}/{key}: {answer.detail}")
                        case Gone() if method == "PUT":
                            failed = Failed(answer.detail)
                        case _:
                            self._health.answered(bucket)
                            return answer
        except TimeoutError as error:
            text = f"{method} of {bucket}/{key} not answered in {self._settings.object_timeout_seconds:g} s"
            raise await self._blame(ref, began, text) from error
        raise await self._blame(ref, began, f"{method}: {failed.detail}", failed.scope)

    async def _once(
        self, method: str, bucket: str, key: str, body: bytes, metadata: Mapping[str, str]
    ) -> Mapping[str, str] | Overwritten | Gone | Denied | Refused | Failed:
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
                text = (await response.content.read(_MAX_ERROR_BYTES)).decode("utf-8", "replace")
                region = response.headers.get("x-amz-bucket-region")
                if region and self._requests.lies_in(bucket, region):
                    return Failed(f"the bucket lies in region {region}")
                if method == "HEAD" and response.status == 404:
                    # Without a body nobody can say more; what is asked for was listed or refused to us just before.
                    return Gone("404")
                # A 409 is S3's word for two conditional writes at once: Failed, to be tried again.
                return read_answer(response.status, text, response.headers, versioned=False)
        except (aiohttp.ClientError, OSError) as error:
            return Failed(f"{type(error).__name__}: {error}"[:_SHORTENED_DETAIL])
