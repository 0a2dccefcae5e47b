"""ICO and CUR: decodes the entry that Chromium shows, by Skia; 32-bit bitmaps without alpha by a reader of its own.

Skia takes the first of several entries of one size, and refuses entries that exceed the file, of which Chromium shows
the existing part. So Skia gets a file with a single entry, in which zeros replace missing bytes of a bitmap.
"""

from __future__ import annotations

import struct
from typing import Final

import numpy as np

from app.domain.headers.bmp import IconEntry, shown_entry
from app.inference.decoding.by_bmp import BmpHeader, read_header
from app.inference.decoding.by_png import decode_still
from app.inference.decoding.by_skia import Raster, SkiaRefusal, still
from app.inference.decoding.pixels import reduced, straight
from app.inference.model_input import Pixels

# More than the largest entry of an icon: 256 x 256 pixels of 32 bits, with mask and header.
_MAX_MISSING_BYTES: Final = 512 * 1024
_FILE_HEADER_BYTES: Final = 14
_LARGEST_HEADER_BYTES: Final = 124
_CORE_BYTES: Final = 12
_UNCOMPRESSED, _BIT_FIELDS = 0, 3
_ENTRY_AT: Final = 22


def decode_icon(content: bytes, smallest_side: int) -> Raster:
    """Return the entry that Chromium shows. Raises SkiaRefusal or MALFORMED."""
    entry = shown_entry(content)
    if entry.is_png:
        # The size of a PNG in the directory is ignored.
        return decode_still(content[entry.offset :], smallest_side)
    header = read_header(bytes(_FILE_HEADER_BYTES) + content[entry.offset : entry.offset + _LARGEST_HEADER_BYTES])
    pixels_at, mask_at, end = _spans(entry, header)
    there = min(end, len(content) - entry.offset)
    if end - there > _MAX_MISSING_BYTES:
        raise SkiaRefusal("most of the entry is missing")
    truncated = there < mask_at
    # One copy of the entry, after a directory with this entry only.
    size = (min(header.width, 256) % 256, min(header.height // 2, 256) % 256)
    directory = struct.pack("<HHHBBBBHHII", 0, 1, 1, *size, 0, 0, 1, header.bits, end, _ENTRY_AT)
    icon = b"".join((directory, memoryview(content)[entry.offset : entry.offset + there], bytes(end - there)))
    if header.bits == 32 and header.compression == _UNCOMPRESSED:
        pixels = np.frombuffer(icon, np.uint8, mask_at - pixels_at, _ENTRY_AT + pixels_at)
        if not pixels[3::4].any():
            mask = np.frombuffer(icon, np.uint8, end - mask_at, _ENTRY_AT + mask_at)
            return Raster(0, straight(reduced(_masked(pixels, mask, header), smallest_side)), truncated)
    return Raster(0, still(icon, smallest_side).pixels, truncated)


def _spans(entry: IconEntry, header: BmpHeader) -> tuple[int, int, int]:
    """Return the offsets of an entry's pixels, of its mask and of its end, relative to its start.

    The end of compressed pixels is known only from the directory.
    """
    if header.compression not in (_UNCOMPRESSED, _BIT_FIELDS):
        return header.size, entry.size, entry.size
    colours = (header.colours or 1 << header.bits) if header.bits <= 8 else 0
    masks = 12 if header.compression == _BIT_FIELDS and header.size == 40 else 0
    pixels_at = header.size + masks + colours * (3 if header.size == _CORE_BYTES else 4)
    height = header.height // 2
    mask_at = pixels_at + (header.width * header.bits + 31) // 32 * 4 * height
    return pixels_at, mask_at, mask_at + (header.width + 31) // 32 * 4 * height


def _masked(pixels: Pixels, mask: Pixels, header: BmpHeader) -> Pixels:
    """Return premultiplied RGBA: opaque for mask bits of 0, transparent for 1."""
    width, height = header.width, header.height // 2
    hidden = np.unpackbits(mask.reshape(height, -1), axis=1, count=width).view(np.bool_)
    canvas = np.empty((height, width, 4), np.uint8)
    canvas[..., :3] = pixels.reshape(height, width, 4)[..., 2::-1]
    canvas[..., 3] = 255
    canvas[hidden] = 0
    return canvas if header.top_down else canvas[::-1]
