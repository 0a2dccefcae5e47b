"""What every record in hand says of itself: working, or waiting and for what. Read by the watchdog and /healthz."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from enum import StrEnum


class LaneState(StrEnum):
    """What a lane does; only `working` and `opening` are expected to make progress."""

    OPENING = "opening"
    IDLE = "idle"
    WORKING = "working"
    WAITING_FOR_STORE = "waiting-for-store"
    WAITING_FOR_INDEX = "waiting-for-index"
    YIELDING = "yielding-to-live"
    NOT_DUE = "not-due"
    FILLING = "filling-a-file"


# The reasons of app.ports.LaneStatus.
_STATES = {
    "store": LaneState.WAITING_FOR_STORE,
    "index": LaneState.WAITING_FOR_INDEX,
    "live": LaneState.YIELDING,
    "not-due": LaneState.NOT_DUE,
    "file": LaneState.FILLING,
}
# A service that is away holds up records that say nothing themselves, such as those that wait for a shared batch.
AWAY = frozenset({LaneState.WAITING_FOR_STORE, LaneState.WAITING_FOR_INDEX})


class RecordStatus:
    """The status of one record in hand.

    `goes_on` is called when it works again after it waited; `rests` when it begins to wait until it is due.
    """

    __slots__ = ("_goes_on", "_rests", "state")

    def __init__(self, goes_on: Callable[[], None] | None = None, rests: Callable[[], None] | None = None) -> None:
        self.state = LaneState.WORKING
        self._goes_on = goes_on
        self._rests = rests

    def waits(self, state: LaneState) -> None:
        """Note what the record waits for."""
        self.state = state
        if state is LaneState.NOT_DUE and self._rests is not None:
            self._rests()

    def works(self) -> None:
        """Note that work goes on."""
        waited, self.state = self.state is not LaneState.WORKING, LaneState.WORKING
        if waited and self._goes_on is not None:
            self._goes_on()


_current: ContextVar[RecordStatus | None] = ContextVar("record_status", default=None)


class ContextStatus:
    """The LaneStatus that processors get: what is said counts for the record whose task says it.

    Tasks that a processor makes while it handles a record speak for that record. Outside of a record it is ignored.
    """

    def waiting(self, reason: str) -> None:
        """See app.ports.LaneStatus; an unknown reason is a KeyError."""
        state = _STATES[reason]
        status = _current.get()
        if status is not None:
            status.waits(state)

    def working(self) -> None:
        """See app.ports.LaneStatus."""
        status = _current.get()
        if status is not None:
            status.works()


def speak_for(status: RecordStatus) -> None:
    """Make the running task, and all that it makes, speak for `status`."""
    _current.set(status)
