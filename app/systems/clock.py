"""The system's clock."""

from __future__ import annotations

import asyncio
import time


class SystemClock:
    """See app.ports.clock.Clock."""

    def now_ms(self) -> int:
        """See app.ports.clock.Clock."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """See app.ports.clock.Clock."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """See app.ports.clock.Clock."""
        await asyncio.sleep(seconds)
