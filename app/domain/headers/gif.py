"""Headers of GIF files: canvas and frames."""

from __future__ import annotations

import struct

from app.domain.headers.layout import MAX_BLOCKS, Layout, Wanted
from app.domain.headers.memory import decoding_bytes


def read(content: bytes, wanted: Wanted) -> Layout:
    """Return the layout. Raises MALFORMED."""
    width, height, frames, _ = _walk(content, wanted.max_frames)
    if frames == 0:
        raise ValueError("no frame")
    kind = "gif animated" if frames > 1 else "gif"
    cost = decoding_bytes(kind, width * height, (width, height), frames, wanted)
    return Layout(width, height, frames, decoder_bytes=cost)


def picture_end(content: bytes) -> int:
    """Return the offset after the trailer, or 0 if the file ends before it. Raises MALFORMED."""
    return _walk(content, len(content))[3]


def _walk(content: bytes, max_frames: int) -> tuple[int, int, int, int]:
    """Return width, height, number of frames, and the offset after the trailer (0 if absent)."""
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    frames = 0
    end = len(content)
    left_blocks = [MAX_BLOCKS]
    # A truncated file ends the count. The decoder checks whether the first frame is complete.
    while at < end and frames <= max_frames:
        block = content[at]
        if block == 0x21:
            at = _skip_sub_blocks(content, at + 2, left_blocks)
        elif block == 0x2C and at + 10 <= end:
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", content, at + 1)
            if frames == 0:  # decoders enlarge the canvas to contain a first frame that exceeds it
                width, height = max(width, left + frame_width), max(height, top + frame_height)
            frames += 1
            after_table = at + 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
            at = _skip_sub_blocks(content, after_table, left_blocks)
        elif block == 0x3B:
            return width, height, frames, at + 1
        else:
            break
    return width, height, frames, 0


def _skip_sub_blocks(content: bytes, at: int, left_blocks: list[int]) -> int:
    end = len(content)
    while at < end and content[at]:
        at += content[at] + 1
        left_blocks[0] -= 1
        if left_blocks[0] < 0:
            raise ValueError("too many blocks")
    return at + 1
