"""Cause of a failed read: the object, its bucket, or the whole store.

The results of concurrent fetches decide if they can; otherwise one probe serves all concurrent callers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from enum import Enum

# A failing store is probed for each bucket at most this often, however many fetches fail.
_VERDICT_SECONDS = 1.0
# Events may name buckets that do not exist: 1,000 names of 255 bytes are 0.3 MB.
_MOST_VERDICTS = 1_000


class Judgement(Enum):
    """Cause of a failure."""

    OBJECT = "object"
    BUCKET = "bucket"
    BUCKET_DENIED = "bucket_denied"
    STORE = "store"


class BucketHealth:
    """Record of when each bucket answered, and judgement of failures. Belongs to one event loop."""

    def __init__(
        self, probe_bucket: Callable[[str], Awaitable[int | None]], probe_store: Callable[[], Awaitable[int | None]]
    ) -> None:
        self._probe_bucket = probe_bucket
        self._probe_store = probe_store
        self._answered: dict[str, float] = {}
        self._succeeded: dict[str, float] = {}
        self._probes: dict[str, asyncio.Task[Judgement]] = {}
        self._verdicts: dict[str, tuple[float, Judgement]] = {}

    def succeeded(self, bucket: str) -> None:
        """Record that an object of `bucket` was read."""
        self._succeeded[bucket] = self._answered[bucket] = time.monotonic()

    def answered(self, bucket: str) -> None:
        """Record that `bucket` gave a valid answer, even without a body."""
        self._answered[bucket] = time.monotonic()

    def succeeded_within(self, bucket: str, seconds: float) -> bool:
        """Return True if an object of `bucket` was read in the last `seconds`."""
        last = self._succeeded.get(bucket)
        return last is not None and time.monotonic() - last <= seconds

    async def judge(self, bucket: str, since: float, *, ask: bool = False) -> Judgement:
        """Return the cause of a failure in `bucket` of a fetch that began at `since` (monotonic).

        `ask`: probe the bucket even if another object of it was read in the meantime.
        """
        if not ask and self._succeeded.get(bucket, 0.0) > since:
            return Judgement.OBJECT
        verdict = self._verdicts.get(bucket)
        if verdict is not None and time.monotonic() - verdict[0] <= _VERDICT_SECONDS:
            return verdict[1]
        probe = self._probes.get(bucket)
        if probe is None:
            probe = self._probes[bucket] = asyncio.create_task(self._ask(bucket, since))
            probe.add_done_callback(lambda _: self._probes.pop(bucket, None))
        return await asyncio.shield(probe)

    async def _ask(self, bucket: str, since: float) -> Judgement:
        judgement = await self._probe(bucket, since)
        if len(self._verdicts) >= _MOST_VERDICTS:
            self._verdicts.clear()  # each holds for a second only
        self._verdicts[bucket] = (time.monotonic(), judgement)
        return judgement

    async def _probe(self, bucket: str, since: float) -> Judgement:
        status = await self._probe_bucket(bucket)
        if status is not None and status < 400:
            return Judgement.OBJECT
        if status == 403:
            return Judgement.BUCKET_DENIED
        if status is not None and status < 500:
            return Judgement.BUCKET
        if any(moment > since for name, moment in self._answered.items() if name != bucket):
            return Judgement.BUCKET
        status = await self._probe_store()
        # 501: the answer of a store that does not list buckets.
        away = status is None or (status >= 500 and status != 501)
        return Judgement.STORE if away else Judgement.BUCKET
