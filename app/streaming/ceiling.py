"""The dead-letter ceiling: too many in a row or in proportion mean a bad deploy, not bad data. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from app.errors import DeadLetterCeiling

WINDOW: Final = 200


class Ceiling:
    """Counts the records of one worker, in the order in which they are released."""

    def __init__(self, ratio: float, run: int, in_a_row: int = 0) -> None:
        """Go on from `in_a_row` dead letters that a process before this one released before it crashed."""
        self._ratio = ratio
        self._run = run
        self._in_a_row = in_a_row
        self._window: deque[bool] = deque(maxlen=WINDOW)

    @property
    def in_a_row(self) -> int:
        """How many dead letters came one after another, up to the last record."""
        return self._in_a_row

    def add(self, dead_letters: int) -> None:
        """Count one record that is about to be released; raises DeadLetterCeiling when it must not be.

        The ratio is judged only over a full window: the first records after a start prove nothing.
        """
        dead = dead_letters > 0
        self._window.append(dead)
        self._in_a_row = self._in_a_row + 1 if dead else 0
        if self._in_a_row > self._run:
            raise DeadLetterCeiling(
                f"{self._in_a_row} records in a row became dead letters, more than SIGHTLINE_LANE_DEAD_LETTER_RUN="
                f"{self._run}; look at `./sightline dead-letters ls`, then roll back or mend"
            )
        share = sum(self._window) / WINDOW
        if len(self._window) == WINDOW and share > self._ratio:
            raise DeadLetterCeiling(
                f"{share:.0%} of the last {WINDOW} records became dead letters, more than "
                f"SIGHTLINE_LANE_DEAD_LETTER_RATIO={self._ratio}; look at `./sightline dead-letters ls`, then roll "
                "back or mend"
            )
