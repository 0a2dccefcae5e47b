"""A file of the corpus: its name, how it is made, and how close the decoder has to come to the browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Closeness(Enum):
    """How far the worst of the 16 x 16 means may be from the browser's, in levels of 255, and why not less."""

    EXACT = 2
    """Lossless, 8 bits: rounding where alpha is laid on the ground, or where 16 bits become 8."""
    LOSSY = 4
    """Two implementations of one lossy codec: inverse DCT, chroma upsampling and YCbCr matrices are rounded differently."""
    COLOUR = 8
    """Colours are converted: the browser and the decoder evaluate profiles with other tables and precision."""
    TONE = 24
    """HDR is mapped to SDR: the mapping is the browser's choice, and no standard fixes it."""


@dataclass(frozen=True, slots=True)
class Case:
    """One file. `media_type` is what a store would send; `build` returns the same bytes at each call.

    `cut`: the file ends before its picture does. What lies there differs between browsers (Chromium leaves it transparent,
    others fill it with grey), so only what Chromium draws is compared.
    `remark`: for the table, where browsers disagree or the choice needs a reason.
    """

    format: str
    oddity: str
    media_type: str
    closeness: Closeness
    build: Callable[[], bytes]
    remark: str = ""
    cut: bool = False

    @property
    def name(self) -> str:
        """The name of the test, for example `png, cut in the middle`."""
        return f"{self.format}, {self.oddity}"
