"""Suspects: the records that were in hand when this worker crashed. Each is handled alone, so the next crash identifies
the record that caused it.

    crash ──► the marks that remained ──► suspects, each with the number of its crashes
    suspect ──► waits until nothing else is in hand ──► handled alone ─┬─► released: no longer a suspect
                                                                       └─► third crash: given up, a dead letter

Only ends that a record can cause count as crashes: a signal (segmentation fault, abort, out of memory, `kill -9`), a
stall, an error of the processor. Every other end removes the marks first (`ended_by`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from app.errors import DeadLetterCeiling, Fatal, Retryable, SightlineError
from app.streaming.ports import SourcePartition

logger = logging.getLogger(__name__)
# Kinds of dead letters, and their reasons.
CRASHED_WORKER: Final = "crashed_worker"
PARKED: Final = "parked"
OUTPUT_TOO_LARGE: Final = "output_too_large"
# The first crash makes suspects of all records in hand; the second identifies one of them. The third excludes a
# coincidence, such as an operator who kills the process twice.
CRASHES: Final = 3
NO_MARK: Final = -1
_NAMED: Final = 10


class Place(NamedTuple):
    """Position of one record. The topic's name is Kafka's."""

    source: SourcePartition
    offset: int

    def __str__(self) -> str:
        return f"{self.source}@{self.offset}"


@dataclass(frozen=True, slots=True)
class GivenUp:
    """Reason for which a record is not handled or its outputs are not published. `crashes`: its crashes so far."""

    kind: str
    detail: str
    crashes: int = 0


class Marks(Protocol):
    """Storage of marks that survives the process. No call blocks longer than a write to the page cache."""

    def put(self, place: Place) -> int:
        """Mark `place` as in hand and return the mark."""
        ...

    def clear(self, mark: int) -> None:
        """Remove one mark. NO_MARK is ignored."""
        ...

    def clear_all(self, but: int = NO_MARK) -> None:
        """Remove all marks except `but`."""
        ...

    def note_run(self, letters: int) -> None:
        """Store the number of consecutive dead letters."""
        ...

    def save(self, crashes: Mapping[Place, int]) -> None:
        """Store the suspects; replaces the stored ones."""
        ...


class NoMarks:
    """Marks of a worker without suspects; stores nothing."""

    def put(self, place: Place) -> int:
        """See Marks."""
        return NO_MARK

    def clear(self, mark: int) -> None:
        """See Marks."""

    def clear_all(self, but: int = NO_MARK) -> None:
        """See Marks."""

    def note_run(self, letters: int) -> None:
        """See Marks."""

    def save(self, crashes: Mapping[Place, int]) -> None:
        """See Marks."""


class InHand:
    """One record in hand, from its offer to its release or to the close of its lane."""

    __slots__ = ("_mark", "_place", "_suspects", "alone")

    def __init__(self, suspects: Suspects, place: Place, mark: int, *, alone: bool) -> None:
        self._suspects = suspects
        self._place = place
        # None: no longer marked.
        self._mark: int | None = mark
        self.alone = alone

    def rests(self) -> None:
        """Remove the record's mark while it waits for a long time: it cannot cause a crash meanwhile. Idempotent."""
        self._suspects._rests(self)

    def released(self) -> None:
        """Remove the record's mark and suspicion: its transaction has committed."""
        self.rests()
        self._suspects._forget(self._place)


class Suspects:
    """Suspects of one worker and all records that it has in hand. Belongs to the event loop."""

    def __init__(
        self, marks: Marks | None = None, crashes: Mapping[Place, int] | None = None, letters: int = 0
    ) -> None:
        self._marks = marks or NoMarks()
        self._crashes = dict(crashes or {})
        self._parked: Mapping[Place, str] = {}
        self._active = 0
        self._alone: InHand | None = None
        self._waiting = 0
        self._moved = asyncio.Event()
        self._blamed = False
        self._letters = letters

    # --- what operators see ---

    @property
    def left(self) -> int:
        """Number of suspects."""
        return len(self._crashes)

    def named(self) -> list[str]:
        """Return the suspects with the most crashes, ten at most, as text."""
        worst = sorted(self._crashes.items(), key=lambda pair: (-pair[1], pair[0]))[:_NAMED]
        return [f"{place} ({crashes})" for place, crashes in worst]

    def park(self, parked: Mapping[Place, str]) -> None:
        """Give up the records at `parked` from now on; the values are the reasons. Replaces the previous mapping."""
        self._parked = parked

    # --- the way of a record ---

    def opened(self, source: SourcePartition, position: int) -> None:
        """Forget the suspects of `source` before `position`: their transactions have committed."""
        done = [place for place in self._crashes if place.source == source and place.offset < position]
        for place in done:
            del self._crashes[place]
        if done:
            self._marks.save(self._crashes)

    async def admitted(self, source: SourcePartition, offset: int) -> None:
        """Wait until the record may be taken in hand. The caller must take it without another await.

        A suspect waits until nothing else is in hand. Every other record waits while a suspect waits or is in hand.
        """
        if not self._crashes:
            return
        if Place(source, offset) in self._crashes:
            self._waiting += 1
            try:
                while self._active:
                    await self._moved.wait()
            finally:
                self._waiting -= 1
                self._move()
        else:
            while self._waiting or self._alone is not None:
                await self._moved.wait()

    def begin(self, source: SourcePartition, offset: int) -> InHand:
        """Mark a record as in hand. Takes microseconds."""
        place = Place(source, offset)
        alone = bool(self._crashes) and place in self._crashes
        in_hand = InHand(self, place, self._marks.put(place), alone=alone)
        self._active += 1
        if alone:
            self._alone = in_hand
        return in_hand

    def given_up(self, source: SourcePartition, offset: int) -> GivenUp | None:
        """Return why the record must not be handled, or None."""
        if not self._crashes and not self._parked:
            return None
        place = Place(source, offset)
        crashes = self._crashes.get(place, 0)
        if crashes >= CRASHES:
            return GivenUp(CRASHED_WORKER, f"in hand at {crashes} crashes of the worker, alone at the last", crashes)
        if (why := self._parked.get(place)) is not None:
            return GivenUp(PARKED, why, crashes)
        return None

    def note_run(self, letters: int) -> None:
        """Store the number of consecutive dead letters, for the ceiling of the next process."""
        if letters != self._letters:
            self._letters = letters
            self._marks.note_run(letters)

    def _rests(self, in_hand: InHand) -> None:
        if in_hand._mark is None:
            return
        self._marks.clear(in_hand._mark)
        in_hand._mark = None
        self._active -= 1
        if self._alone is in_hand:
            self._alone = None
        if self._waiting or self._crashes:
            self._move()

    def _forget(self, place: Place) -> None:
        if self._crashes and self._crashes.pop(place, None) is not None:
            self._marks.save(self._crashes)
            if not self._crashes:
                logger.info("no suspects are left: records are handled concurrently again")

    def _move(self) -> None:
        """Wake all waiting records; each checks its condition again."""
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    # --- the end of the process ---

    def failed(self, error: BaseException, in_hand: InHand | None) -> None:
        """Handle the fatal error of a lane: of the record `in_hand`, or of a release (None).

        An unexpected error may be caused by the record; out of memory, by any record in hand.
        """
        if isinstance(error, Fatal | Retryable) or (in_hand is None and isinstance(error, SightlineError)):
            return
        self._blamed = True
        if in_hand is not None and in_hand._mark is not None and not isinstance(error, MemoryError):
            self._marks.clear_all(but=in_hand._mark)

    def ended_by(self, error: BaseException) -> None:
        """Remove all marks if no record can have caused `error`, which ends the process."""
        if not self._blamed and not isinstance(error, MemoryError):
            self._marks.clear_all()
        if isinstance(error, DeadLetterCeiling):
            # An operator intervenes before the next start, so its count begins at 0.
            self.note_run(0)

    def stopped(self) -> None:
        """Reset the number of consecutive dead letters at an orderly end, after all lanes are closed."""
        self.note_run(0)


def starting_notice(suspects: Suspects) -> str:
    """Return the sentence for the log of a worker that starts with suspects."""
    more = suspects.left - _NAMED
    named = ", ".join(suspects.named()) + (f" and {more} more" if more > 0 else "")
    return (
        f"{suspects.left} records were in hand when this worker died; each is handled alone until it is released, and "
        f"given up after {CRASHES} crashes; with their crashes so far: {named}"
    )
