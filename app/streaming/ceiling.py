"""Dead-letter ceiling: too many dead letters, in a row or as a ratio, mean a faulty release, not bad data. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

from app.errors import DeadLetterCeiling

WINDOW: Final = 200


class Ceiling:
    """Counter of the records of one worker, in the order of their release."""

    def __init__(self, ratio: float, run: int, in_a_row: int = 0) -> None:
        """Continue from `in_a_row` dead letters that the previous process released before it crashed."""
        self._ratio = ratio
        self._run = run
        self._in_a_row = in_a_row
        self._window: deque[bool] = deque(maxlen=WINDOW)

    @property
    def in_a_row(self) -> int:
        """Number of consecutive dead letters up to the last record."""
        return self._in_a_row

    def add(self, dead_letters: int) -> None:
        """Count one record before its release. Raises DeadLetterCeiling if it must not be released.

        The ratio is checked only over a full window: the first few records after a start are too small a sample.
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
