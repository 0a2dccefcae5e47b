"""Limit on failed sign-ins per address: five at once, then one in ten seconds."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from app.ports.clock import Clock

_BURST: Final = 5.0
_SECONDS_EACH: Final = 10.0
# An address that is evicted starts again without failures; to evict one, an attacker needs this many addresses.
_ADDRESSES: Final = 10_000


class FailedSignIns:
    """Token bucket per address; each failure takes a token. The number of addresses is bounded."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Failures that still count, and the time at which they were computed.
        self._failed: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_seconds(self, address: str) -> float:
        """Return the time until `address` may sign in again; 0 if it may now."""
        return max(0.0, (self._open(address) - _BURST + 1.0) * _SECONDS_EACH)

    def note(self, address: str) -> None:
        """Count a failure."""
        self._failed[address] = (self._open(address) + 1.0, self._clock.monotonic())
        self._failed.move_to_end(address)
        if len(self._failed) > _ADDRESSES:
            self._failed.popitem(last=False)

    def _open(self, address: str) -> float:
        failed, at = self._failed.get(address, (0.0, 0.0))
        return max(0.0, failed - (self._clock.monotonic() - at) / _SECONDS_EACH)
