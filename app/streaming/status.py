"""Status of every record in hand: working, or waiting for something. Read by the watchdog and /healthz."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from enum import StrEnum


class LaneState(StrEnum):
    """State of a lane. Only `working` and `opening` are expected to make progress."""

    OPENING = "opening"
    IDLE = "idle"
    WORKING = "working"
    WAITING_FOR_STORE = "waiting-for-store"
    WAITING_FOR_INDEX = "waiting-for-index"
    YIELDING = "yielding-to-live"
    NOT_DUE = "not-due"
    FILLING = "filling-a-file"


# The reasons of app.ports.processing.LaneStatus.
_STATES = {
    "store": LaneState.WAITING_FOR_STORE,
    "index": LaneState.WAITING_FOR_INDEX,
    "live": LaneState.YIELDING,
    "not-due": LaneState.NOT_DUE,
    "file": LaneState.FILLING,
}
# Waits for an unavailable service. They also delay records with another status, such as members of a shared batch.
AWAY = frozenset({LaneState.WAITING_FOR_STORE, LaneState.WAITING_FOR_INDEX})


class RecordStatus:
    """Status of one record in hand.

    `goes_on` is called when the record works again after a wait, `rests` when it begins to wait until it is due.
    """

    __slots__ = ("_goes_on", "_rests", "state")

    def __init__(self, goes_on: Callable[[], None] | None = None, rests: Callable[[], None] | None = None) -> None:
        self.state = LaneState.WORKING
        self._goes_on = goes_on
        self._rests = rests

    def waits(self, state: LaneState) -> None:
        """Set the state to a wait."""
        self.state = state
        if state is LaneState.NOT_DUE and self._rests is not None:
            self._rests()

    def works(self) -> None:
        """Set the state to working."""
        waited, self.state = self.state is not LaneState.WORKING, LaneState.WORKING
        if waited and self._goes_on is not None:
            self._goes_on()


_current: ContextVar[RecordStatus | None] = ContextVar("record_status", default=None)


class ContextStatus:
    """The LaneStatus of processors: a call sets the status of the record whose task makes the call.

    Tasks that a processor creates while it handles a record count as that record's. Calls outside a record are ignored.
    """

    def waiting(self, reason: str) -> None:
        """See app.ports.processing.LaneStatus. Raises KeyError for an unknown reason."""
        state = _STATES[reason]
        status = _current.get()
        if status is not None:
            status.waits(state)

    def working(self) -> None:
        """See app.ports.processing.LaneStatus."""
        status = _current.get()
        if status is not None:
            status.works()


def speak_for(status: RecordStatus) -> None:
    """Bind the current task, and all tasks that it creates, to `status`."""
    _current.set(status)
