"""Failed sign-ins of one address: five at once, then one in ten seconds."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from app.ports.clock import Clock

_BURST: Final = 5.0
_SECONDS_EACH: Final = 10.0
# An address that is forgotten may fail anew; to push one out somebody must own so many.
_ADDRESSES: Final = 10_000


class FailedSignIns:
    """A token bucket for each address, of which failures take; bounded by the number of addresses."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        # Failures not yet forgiven, and when that was counted.
        self._failed: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_seconds(self, address: str) -> float:
        """Return 0, or for how long `address` is not listened to."""
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
