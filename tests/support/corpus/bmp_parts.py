"""BMP by hand: file header, headers of all versions, packed rows, run lengths."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np


def core_header(width: int, height: int, bits: int) -> bytes:
    """Return the header of OS/2 version 1."""
    return struct.pack("<IHHHH", 12, width, height, 1, bits)


def info_header(
    width: int,
    height: int,
    bits: int,
    size: int = 40,
    compression: int = 0,
    colours: int = 0,
    masks: tuple[int, int, int, int] = (0, 0, 0, 0),
) -> bytes:
    """Return the header of Windows, or of OS/2 version 2 (16 and 64 bytes); `masks` is written if `size` has room."""
    head = struct.pack("<IiiHHIIiiII", size, width, height, 1, bits, compression, 0, 2835, 2835, colours, 0)
    if size in (16, 64):
        return (head + bytes(size))[:size]
    # The colour space "sRGB" of versions 4 and 5.
    tail = struct.pack("<4I", *masks) + b"BGRs"
    return (head + tail + bytes(124))[:size]


def bmp(header: bytes, table: bytes, rows: bytes) -> bytes:
    """Return a whole file; `table` is the palette or the bit masks."""
    at = 14 + len(header) + len(table)
    return b"BM" + struct.pack("<IHHI", at + len(rows), 0, 0, at) + header + table + rows


def palette(colours: bytes, quad: int = 4) -> bytes:
    """Return the palette of RGB triples as BMP stores it, with 3 or 4 bytes a colour."""
    triples = (colours[at : at + 3][::-1] for at in range(0, len(colours), 3))
    return b"".join(triple + bytes(quad - 3) for triple in triples)


def packed(samples: Any, bits: int) -> bytes:
    """Return rows of `bits` a sample, each padded to 4 bytes; [height, width] or [height, width, channels]."""
    flat = samples.reshape(samples.shape[0], -1)
    if bits < 8:
        planes = (flat[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        flat = np.packbits(planes.reshape(flat.shape[0], -1).astype(np.uint8), axis=1)
    pad = -flat.shape[1] % 4
    return b"".join(row.astype(np.uint8).tobytes() + bytes(pad) for row in flat)


def _runs(row: Any) -> list[tuple[int, Any]]:
    found: list[tuple[int, Any]] = []
    for value in row.tolist():
        if found and found[-1][1] == value and found[-1][0] < 255:
            found[-1] = (found[-1][0] + 1, value)
        else:
            found.append((1, value))
    return found


def rle8(indices: Any, jumps: bool = False, end: bool = True) -> bytes:
    """Return runs; with `jumps` the rows 32 to 63 are jumped over, without `end` the last mark is missing."""
    coded = b""
    for number, row in enumerate(indices):
        if jumps and number == 32:
            coded += b"\0\x02\0\x20"
        if jumps and 32 <= number < 64:
            continue
        coded += b"".join(bytes((count, value)) for count, value in _runs(row)) + b"\0\0"
    return coded + (b"\0\x01" if end else b"")


def rle4(indices: Any) -> bytes:
    """Return runs and, where nothing repeats, absolute pixels."""
    coded = b""
    for number, row in enumerate(indices):
        if number % 2:
            coded += b"".join(bytes((count, value << 4 | value)) for count, value in _runs(row))
        else:
            for at in range(0, len(row), 128):
                part = row[at : at + 128]
                coded += bytes((0, len(part))) + bytes((part[::2] << 4 | part[1::2]).tolist())
        coded += b"\0\0"
    return coded + b"\0\x01"


def rle24(pixels: Any) -> bytes:
    """Return runs of blue, green, red."""
    coded = b""
    for row in pixels:
        coded += b"".join(bytes((count, *value)) for count, value in _runs(row)) + b"\0\0"
    return coded + b"\0\x01"
