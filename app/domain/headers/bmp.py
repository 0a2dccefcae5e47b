"""Headers of BMP, ICO and CUR files."""

from __future__ import annotations

import struct

from app.domain.headers import png
from app.domain.headers.layout import Layout, Wanted
from app.domain.headers.memory import decoding_bytes

_CORE_HEADER_BYTES = 12
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def read(content: bytes, wanted: Wanted) -> Layout:
    """Return the layout of a BMP. Raises MALFORMED."""
    width, height = _size(content, 14)
    return Layout(
        width, height, decoder_bytes=decoding_bytes("bmp", abs(width) * height, (abs(width), height), 1, wanted)
    )


def read_icon(content: bytes, wanted: Wanted) -> Layout:
    """Return the layout of the entry of an ICO or CUR that browsers show: the largest, then the one of most colours.

    Raises MALFORMED.
    """
    (count,) = struct.unpack_from("<H", content, 4)
    found: list[tuple[int, int, int, int]] = []
    for entry in range(6, 6 + 16 * count, 16):
        width, height, _, _, _, bits, size, offset = struct.unpack_from("<BBBBHHII", content, entry)
        if offset + 16 > len(content):
            continue
        if content[offset : offset + 8] == _PNG_SIGNATURE:
            inner = png.read(content[offset : offset + size], wanted)
            width, height = inner.width, inner.height
        else:
            width, height = _size(content, offset)
            # A picture inside an icon has its mask below it.
            height //= 2
        found.append((width * height, bits, width, height))
    if not found:
        raise ValueError("no entry")
    _, _, width, height = max(found)
    return Layout(width, height, decoder_bytes=decoding_bytes("ico", width * height, (width, height), 1, wanted))


def _size(content: bytes, at: int) -> tuple[int, int]:
    (size,) = struct.unpack_from("<I", content, at)
    width, height = struct.unpack_from("<HH" if size == _CORE_HEADER_BYTES else "<ii", content, at + 4)
    return width, abs(height)
