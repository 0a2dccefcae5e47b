"""Geometry of renditions: the parts of a picture that the models score. Pure. docs/images.md states the rules.

Models see a square of about 250 pixels. The content of a long strip, or a small picture in the corner of a large one,
would be lost at that size. Therefore parts are scored too, and each label counts with its highest score.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from schemas.records import Rendition

# A picture with a larger ratio of its sides is a strip.
STRIP_RATIO: Final = 2.0
# Part of the side that neighbouring squares share, so that a motif on a border is complete in one of them.
_OVERLAP: Final = 0.25
WHITE: Final = "white"
DARK: Final = "dark"


@dataclass(frozen=True, slots=True)
class Box:
    """A part of a picture in pixels; `right` and `bottom` are exclusive."""

    left: int
    top: int
    right: int
    bottom: int


def strip_squares(width: int, height: int) -> tuple[Box, ...]:
    """Return overlapping squares that cover a strip, in reading order; empty for a picture that is not a strip."""
    count = square_count(width, height)
    if not count:
        return ()
    side, length = min(width, height), max(width, height)
    starts = [round(number * (length - side) / (count - 1)) for number in range(count)]
    if width > height:
        return tuple(Box(at, 0, at + side, side) for at in starts)
    return tuple(Box(0, at, side, at + side) for at in starts)


def square_count(width: int, height: int) -> int:
    """Return the number of squares of `strip_squares`, without making them."""
    side, length = min(width, height), max(width, height)
    if length <= STRIP_RATIO * side:
        return 0
    return 1 + math.ceil((length - side) / (side * (1.0 - _OVERLAP)))


def quadrants(width: int, height: int, from_pixels: int) -> tuple[Box, ...]:
    """Return the four quadrants of a picture with at least `from_pixels` pixels; empty for a strip or if that is 0."""
    if not from_pixels or width * height < from_pixels or max(width, height) > STRIP_RATIO * min(width, height):
        return ()
    middle, centre = width // 2, height // 2
    return (
        Box(0, 0, middle, centre),
        Box(middle, 0, width, centre),
        Box(0, centre, middle, height),
        Box(middle, centre, width, height),
    )


def rendition_in_words(rendition: Rendition) -> str:
    """Return a description of a rendition for people: frame (counted from 1), part, ground."""
    words = [f"frame {rendition.frame + 1}"]
    if (rendition.left, rendition.top, rendition.right, rendition.bottom) != (0.0, 0.0, 1.0, 1.0):
        across, down = (
            f"{start * 100:.0f}-{end * 100:.0f} %"
            for start, end in ((rendition.left, rendition.right), (rendition.top, rendition.bottom))
        )
        words.append(f"{across} across and {down} down")
    if rendition.ground:
        words.append(f"on {rendition.ground} ground")
    return ", ".join(words)
