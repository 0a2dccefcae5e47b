"""Admission: a limit on concurrent computations, so that accepted requests stay fast.

A refused caller learns it at once. Retry-After is computed from the present throughput.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from app.errors import Overloaded
from app.inference.budget import Budget, Held, Ticket
from app.ports.clock import Clock

# Throughput is measured over about the last ten seconds of work. Time without work does not count.
_MEMORY_SECONDS: Final = 10.0
# Retry-After before the first picture is finished.
_UNMEASURED_RETRY_SECONDS: Final = 2
_LONGEST_RETRY_SECONDS: Final = 60
# A body that gets no room in this time is refused; its client waits without having sent it.
_ROOM_WAIT_SECONDS: Final = 2.0


class Place:
    """Place of one admitted computation. `leave` releases it and is idempotent."""

    __slots__ = ("_admission", "_held")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = True

    def leave(self) -> None:
        """Release the place. Idempotent."""
        if self._held:
            self._held = False
            self._admission.left()


class Admission:
    """Limit of `most` concurrent computations. Refuses callers whose deadline cannot be met. Does no I/O."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._seen_at = clock.monotonic()
        self._busy_seconds = 0.0
        self._finished = 0.0
        self.in_hand = 0

    @property
    def per_second(self) -> float | None:
        """Recent throughput in pictures per second of work; None before the first.

        It is not the capacity of the machine: with few computations in progress, batches are not full.
        """
        self._pass_time()
        return self._finished / self._busy_seconds if self._finished > 0 and self._busy_seconds > 0 else None

    def enter(self, seconds_left: float | None) -> Place:
        """Return a place. Raises Overloaded if all are taken, or if the picture would take longer than `seconds_left`.

        An idle service admits every caller: otherwise one slow picture could make it refuse all others for ever.
        """
        rate = self.per_second
        expected = None if rate is None else self.in_hand / rate
        if self.in_hand >= self._most:
            raise Overloaded(f"{self.in_hand} pictures are being computed, at most {self._most}", _retry(expected))
        if seconds_left is not None and expected is not None and expected > seconds_left:
            text = f"a picture takes about {expected:.1f} s now, beyond the deadline in {max(0.0, seconds_left):.1f} s"
            raise Overloaded(text, _retry(expected - seconds_left))
        self.in_hand += 1
        return Place(self)

    def finished(self) -> None:
        """Count a computed picture. Rejections are cheap and would distort the throughput, so they are not counted."""
        self._pass_time()
        self._finished += 1

    def left(self) -> None:
        """Release a place (called by Place)."""
        self._pass_time()
        self.in_hand -= 1

    def _pass_time(self) -> None:
        now = self._clock.monotonic()
        if self.in_hand:
            busy = now - self._seen_at
            fade = math.exp(-busy / _MEMORY_SECONDS)
            self._busy_seconds = self._busy_seconds * fade + busy
            self._finished *= fade
        self._seen_at = now


def _retry(seconds: float | None) -> int:
    if seconds is None:
        return _UNMEASURED_RETRY_SECONDS
    return min(_LONGEST_RETRY_SECONDS, max(1, math.ceil(seconds)))


class BodyRoom:
    """Budget of `total` bytes for request bodies, taken before a body is read. Belongs to one event loop."""

    def __init__(self, total: int) -> None:
        self._budget = Budget(total)

    async def take(self, amount: int, seconds_left: float | None) -> Held:
        """Return room for `amount` bytes, in order of call. Raises Overloaded after two seconds or `seconds_left`."""
        wait = _ROOM_WAIT_SECONDS if seconds_left is None else min(_ROOM_WAIT_SECONDS, max(0.0, seconds_left))
        try:
            async with asyncio.timeout(wait):
                return Held(self._budget, await self._budget.take(amount, Ticket()))
        except TimeoutError as error:
            text = f"{self._budget.total} bytes of bodies are in hand"
            raise Overloaded(text, _UNMEASURED_RETRY_SECONDS) from error
