"""A file of the corpus: its name, how it is made, and how close the decoder has to come to the browser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Closeness(Enum):
    """How far the worst of the 16 x 16 means may be from the browser's, in levels of 255, and why not less."""

    EXACT = 2, "lossless pictures: alpha laid on the ground, and 16 bits made 8, are rounded differently"
    LOSSY = 4, "lossy pictures: decoders round the inverse DCT, the chroma upsampling and the YCbCr matrix differently"
    COLOUR = 8, "converted colours, HDR among them: the browser and the decoder evaluate profiles with different tables"
    RANGE = 20, "AVIF with alpha or with several frames: Chromium reads some planes of full range as limited range"

    def __init__(self, levels: int, reason: str) -> None:
        self.levels = levels
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Case:
    """One file. `media_type` is what a store would send; `build` returns the same bytes at each call.

    `cut`: the file ends, or can be read no further, before its picture does. Browsers differ in what they draw of the
    missing part (Chromium leaves it transparent, others fill it with grey), so only what Chromium draws is compared.
    """

    format: str
    oddity: str
    media_type: str
    closeness: Closeness
    build: Callable[[], bytes]
    cut: bool = False

    @property
    def name(self) -> str:
        """The name of the test, for example `png, cut at 50%`."""
        return f"{self.format}, {self.oddity}"
