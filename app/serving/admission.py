"""Admission: how much the query service takes in hand, so that what it accepted stays as quick as it was.

Who is not admitted is told at once, and when to come again by how fast pictures are being finished.
"""

from __future__ import annotations

import asyncio
import math
from typing import Final

from app.errors import Overloaded
from app.inference.budget import Budget, Held, Ticket
from app.ports.clock import Clock

# Throughput is that of about the last ten seconds of work. Time without work does not count: a pause forgets nothing.
_MEMORY_SECONDS: Final = 10.0
# Before the first picture is finished nothing is measured.
_UNMEASURED_RETRY_SECONDS: Final = 2
_LONGEST_RETRY_SECONDS: Final = 60
# A body that finds no room in this time is refused: its client waits with nothing in hand.
_ROOM_WAIT_SECONDS: Final = 2.0


class Place:
    """One admitted computation; `leave` gives the place back, again is nothing."""

    __slots__ = ("_admission", "_held")

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._held = True

    def leave(self) -> None:
        """Give the place back."""
        if self._held:
            self._held = False
            self._admission.left()


class Admission:
    """At most `most` computations in hand, none of whose callers is known to ask in vain. Pure state and a clock."""

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._seen_at = clock.monotonic()
        self._busy_seconds = 0.0
        self._finished = 0.0
        self.in_hand = 0

    @property
    def per_second(self) -> float | None:
        """Pictures finished in a second of work, lately; None before the first.

        Few in hand fill no batch, so this is what the machine did, not the most that it could.
        """
        self._pass_time()
        return self._finished / self._busy_seconds if self._finished > 0 and self._busy_seconds > 0 else None

    def enter(self, seconds_left: float | None) -> Place:
        """Return a place. Raises Overloaded where all are taken, and where `seconds_left` will not do.

        With nothing in hand everybody is let in: one slow picture must not close the door for good.
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
        """Count a picture that was computed; rejections cost next to nothing and would flatter the rate."""
        self._pass_time()
        self._finished += 1

    def left(self) -> None:
        """Take a place back (see Place)."""
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
    """Bytes of bodies in hand, at most `total`; taken before a body is read. Belongs to one event loop."""

    def __init__(self, total: int) -> None:
        self._budget = Budget(total)

    async def take(self, amount: int, seconds_left: float | None) -> Held:
        """Return room for `amount` bytes, in order of asking. Raises Overloaded after two or `seconds_left` seconds."""
        wait = _ROOM_WAIT_SECONDS if seconds_left is None else min(_ROOM_WAIT_SECONDS, max(0.0, seconds_left))
        try:
            async with asyncio.timeout(wait):
                return Held(self._budget, await self._budget.take(amount, Ticket()))
        except TimeoutError as error:
            text = f"{self._budget.total} bytes of bodies are in hand"
            raise Overloaded(text, _UNMEASURED_RETRY_SECONDS) from error
