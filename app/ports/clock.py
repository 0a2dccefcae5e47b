"""The clock: time and waiting, so that tests move it by hand."""

from __future__ import annotations

from typing import Protocol


class Clock(Protocol):
    """Time. The real one is the system's; tests move theirs by hand."""

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; cancellable."""
        ...
