"""Return type of the header readers, and the bounds that all readers share."""

from __future__ import annotations

import struct
from dataclasses import dataclass

# More than any encoder writes. Bounds the time for a malicious header: each step takes less than 1 us.
MAX_BLOCKS = 500_000
MAX_BOXES = 4096
# Exceptions of header readers on malformed bytes. A huge 64-bit offset raises OverflowError, an ArithmeticError.
MALFORMED = (struct.error, ArithmeticError, LookupError, ValueError)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Options of decoding that determine its cost.

    `max_frames`: stop counting frames at this number plus one. `smallest_side`: the decoder may reduce a picture while
    its short side stays at least this; 0 never reduces. `frames`: number of frames that are kept.
    """

    max_frames: int
    smallest_side: int = 0
    frames: int = 1


@dataclass(frozen=True, slots=True)
class Layout:
    """Facts from a header.

    `width` and `height`: size in the file, before orientation. `decoded_width` and `decoded_height`: the largest size
    that the decoder allocates; 0 if it is the same. `work_pixels`: pixels that decoding processes, summed over all
    passes. `decoder_bytes`: upper bound of the memory of decoding.
    """

    width: int
    height: int
    frames: int = 1
    decoded_width: int = 0
    decoded_height: int = 0
    work_pixels: int = 0
    decoder_bytes: int = 0


def reduction(width: int, height: int, smallest_side: int) -> int:
    """Return the integer factor by which a decoded picture may be reduced, at least 1."""
    return max(1, min(width, height) // smallest_side) if smallest_side else 1
