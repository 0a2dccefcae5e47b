"""GIF by hand: frames at any place with any disposal, and damaged endings."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

TRAILER: Final = b"\x3b"
LOOP: Final = b"\x21\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"


@dataclass(frozen=True, slots=True, eq=False)
class GifFrame:
    """Indices [height, width] of a palette of 256, where they lie, and how they go. `delay` is in hundredths."""

    indices: Any
    left: int = 0
    top: int = 0
    delay: int = 10
    disposal: int = 0
    transparent: int | None = None
    interlaced: bool = False
    palette: bytes = b""


def lzw(indices: Any, bits: int = 8) -> bytes:
    """Return codes that are never compressed: a clear code comes before the code size would grow."""
    clear, end = 1 << bits, (1 << bits) + 1
    codes = []
    for number, value in enumerate(np.asarray(indices).ravel().tolist()):
        if number % ((1 << bits) - 2) == 0:
            codes.append(clear)
        codes.append(value)
    codes.append(end)
    shifts = np.arange(bits + 1)
    stream = ((np.array(codes)[:, None] >> shifts) & 1).astype(np.uint8).ravel()
    return np.packbits(stream, bitorder="little").tobytes()


def sub_blocks(coded: bytes) -> bytes:
    """Return the sub-blocks with their terminator."""
    parts = (coded[at : at + 255] for at in range(0, len(coded), 255))
    return b"".join(bytes((len(part),)) + part for part in parts) + b"\0"


def screen(width: int, height: int, palette: bytes, background: int = 0, version: bytes = b"89a") -> bytes:
    """Return the header; `palette` holds 256 colours, or none."""
    flags = 0xF7 if palette else 0x70
    return b"GIF" + version + struct.pack("<HHBBB", width, height, flags, background, 0) + palette


def control(frame: GifFrame) -> bytes:
    """Return the graphic control extension."""
    flags = frame.disposal << 2 | (frame.transparent is not None)
    return b"\x21\xf9\x04" + struct.pack("<BHBB", flags, frame.delay, frame.transparent or 0, 0)


def image(frame: GifFrame) -> bytes:
    """Return the image descriptor and the coded pixels."""
    height, width = frame.indices.shape
    flags = 0x40 * frame.interlaced | (0x87 if frame.palette else 0)
    order = [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4), *range(1, height, 2)]
    indices = frame.indices[order] if frame.interlaced else frame.indices
    head = struct.pack("<BHHHHB", 0x2C, frame.left, frame.top, width, height, flags)
    return head + frame.palette + b"\x08" + sub_blocks(lzw(indices))


def gif(size: tuple[int, int], palette: bytes, *frames: GifFrame, loop: bytes = LOOP, background: int = 0) -> bytes:
    """Return a whole file."""
    body = b"".join(control(frame) + image(frame) for frame in frames)
    return screen(*size, palette, background) + loop + body + TRAILER
