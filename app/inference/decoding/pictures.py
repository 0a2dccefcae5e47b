"""Results and options of decoding: frames as a browser shows them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from app.domain.images import ImageHeader
from app.inference.model_input import Pixels

Grant = Callable[[int], None]
"""Called with the upper bound of bytes that a decoder is about to allocate, before it allocates them.

Returns when the memory is granted (it may wait for other pictures). Raises OverBudget if it can never be granted.
"""


class OverBudget(Exception):
    """Error: one picture needs more memory than decoding may take.

    Operator: nothing: the image is rejected as `too_much_memory`.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One frame as a browser shows it: composited, upright, in sRGB.

    `pixels`: uint8 [height, width, 3], or [height, width, 4] with straight alpha if the picture has transparency.
    `index` counts the frames of the file from 0.
    """

    pixels: Pixels
    index: int


@dataclass(frozen=True, slots=True, eq=False)
class DecodedImage:
    """Decoded frames of one content.

    `header` has the upright size of the whole picture before reduction, and the number of frames in the file. `frames`
    has 1 to `DecodeOptions.frames` frames in the order of their index, all of one size. `truncated`: the file ends
    before the picture does; the pixels are those that a browser shows.
    """

    header: ImageHeader
    truncated: bool
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class DecodeOptions:
    """Work that a decoder may leave out.

    `smallest_side`: pictures may be reduced while decoding as long as their short side stays at least this; 0 never
    reduces. `frames`: at most this many frames of an animation.
    """

    smallest_side: int
    frames: int
