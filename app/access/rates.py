"""Rate limit per API key: a token bucket for each key, synchronised with other API processes outside of requests."""

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
# After this time every bucket is full again, whatever its debt, so it can be dropped.
_IDLE_SECONDS: Final = 10.0


@dataclass(slots=True)
class _Bucket:
    rate: float
    burst: float
    tokens: float
    filled_at: float
    used_at: float
    # Tokens taken by this process since the last exchange, and the shared counter at that time (None: no exchange yet).
    unshared: int = 0
    total: int | None = None

    def fill(self, now: float) -> None:
        self.tokens = min(self.burst, self.tokens + (now - self.filled_at) * self.rate)
        self.filled_at = now


class Rates:
    """Token buckets by key id: `rate` tokens per second, with the tokens of two seconds as capacity (at least one).

    Processes exchange their use through `shared` every 200 ms, so the rate of a key applies to all of them together.
    Requests beyond the rate until then become a debt. Without `shared`, or during its outage, each process counts
    alone.
    """

    def __init__(self, clock: Clock, default_per_second: float, shared: SharedUse | None = None) -> None:
        self._clock = clock
        self._default = default_per_second
        self._shared = shared
        self._buckets: dict[str, _Bucket] = {}
        self._alone = False

    def take(self, key_id: str, rate_per_second: float | None = None) -> float:
        """Count the request and return 0, or return the seconds until a request is accepted. Never waits."""
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
        """Exchange use with other processes, for ever."""
        while True:
            await self._clock.sleep(_SHARE_SECONDS)
            await self.exchange()

    async def exchange(self) -> None:
        """Publish the use of this process, and deduct the use of others from the buckets."""
        now = self._clock.monotonic()
        self._buckets = {key: bucket for key, bucket in self._buckets.items() if now - bucket.used_at < _IDLE_SECONDS}
        if self._shared is None or not self._buckets:
            return
        used = {key: bucket.unshared for key, bucket in self._buckets.items()}
        try:
            totals = await self._shared.add(used)
        except RedisUnavailable as error:
            if not self._alone:
                logger.warning("rate limits apply to this process alone until Redis answers: %s", error)
            self._alone = True
            # It is unknown whether the use was added; the next exchange starts from the stored counter.
            self._settle(used, {})
            return
        if self._alone:
            logger.info("rate limits apply to all processes again")
        self._alone = False
        self._settle(used, totals)

    def _settle(self, used: dict[str, int], totals: dict[str, int]) -> None:
        now = self._clock.monotonic()
        for key, own in used.items():
            bucket = self._buckets.get(key)
            if bucket is None:
                continue
            bucket.unshared = max(0, bucket.unshared - own)  # a bucket that was recreated in the meantime starts at 0
            total = totals.get(key)
            # A counter that was recreated is lower than before; then nothing is deducted.
            if total is not None and bucket.total is not None and total >= bucket.total:
                bucket.fill(now)
                others = total - bucket.total - own
                bucket.tokens = max(-bucket.burst, bucket.tokens - others)
            bucket.total = total
