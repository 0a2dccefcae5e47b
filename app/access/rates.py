"""How often a key may come: a token bucket for each, kept in step with the other API processes beside the requests."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

from app.access.ports import SharedUse
from app.errors import RedisUnavailable
from app.ports.clock import Clock

logger = logging.getLogger(__name__)
_SHARE_SECONDS: Final = 0.2
_BURST_SECONDS: Final = 2.0
# By then every bucket is full again, whatever debt it had: forgetting it changes nothing.
_IDLE_SECONDS: Final = 10.0


@dataclass(slots=True)
class _Bucket:
    rate: float
    burst: float
    tokens: float
    filled_at: float
    used_at: float
    # Taken here since the last exchange, and the shared counter as it was then (None: never exchanged).
    unshared: int = 0
    total: int | None = None

    def fill(self, now: float) -> None:
        self.tokens = min(self.burst, self.tokens + (now - self.filled_at) * self.rate)
        self.filled_at = now


class Rates:
    """Token buckets by key id: `rate` a second, and at once what two seconds give (one request at least).

    Processes exchange their use through `shared` every 200 ms, so a key that goes to several at once gets its rate over
    all of them; what they let in too much until they know is owed. Without `shared`, or while it is away, each counts
    alone.
    """

    def __init__(self, clock: Clock, default_per_second: float, shared: SharedUse | None = None) -> None:
        self._clock = clock
        self._default = default_per_second
        self._shared = shared
        self._buckets: dict[str, _Bucket] = {}
        self._alone = False

    def take(self, key_id: str, rate_per_second: float | None = None) -> float:
        """Return 0 and count the request, or in how many seconds one would be let in. Never waits."""
        now = self._clock.monotonic()
        rate = self._default if rate_per_second is None else rate_per_second
        bucket = self._buckets.get(key_id)
        if bucket is None or bucket.rate != rate:
            burst = max(1.0, rate * _BURST_SECONDS)
            bucket = self._buckets[key_id] = _Bucket(rate, burst, burst, now, now)
        bucket.fill(now)
        bucket.used_at = now
        if bucket.tokens < 1.0:
            return (1.0 - bucket.tokens) / rate
        bucket.tokens -= 1.0
        bucket.unshared += 1
        return 0.0

    async def run(self) -> None:
        """Exchange with the other processes for ever."""
        while True:
            await self._clock.sleep(_SHARE_SECONDS)
            await self.exchange()

    async def exchange(self) -> None:
        """Tell the others what was used here, and take their use off the buckets."""
        now = self._clock.monotonic()
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if now - bucket.used_at < _IDLE_SECONDS}
        if self._shared is None or not self._buckets:
            return
        used = {key: bucket.unshared for key, bucket in self._buckets.items()}
        try:
            totals = await self._shared.add(used)
        except RedisUnavailable as error:
            if not self._alone:
                logger.warning("rate limits count this process alone: %s", error)
            self._alone = True
            # Whether it was added is not known; the next exchange begins from what it finds.
            self._settle(used, {})
            return
        if self._alone:
            logger.info("rate limits count all processes again")
        self._alone = False
        self._settle(used, totals)

    def _settle(self, used: dict[str, int], totals: dict[str, int]) -> None:
        now = self._clock.monotonic()
        for key, own in used.items():
            bucket = self._buckets.get(key)
            if bucket is None:
                continue
            bucket.unshared = max(0, bucket.unshared - own)  # a bucket that was made anew meanwhile counts from 0
            total = totals.get(key)
            # A counter that began anew holds less than before: nothing to be taken off then.
            if total is not None and bucket.total is not None and total >= bucket.total:
                bucket.fill(now)
                others = total - bucket.total - own
                bucket.tokens = max(-bucket.burst, bucket.tokens - others)
            bucket.total = total
