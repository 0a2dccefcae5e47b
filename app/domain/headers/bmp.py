"""Headers of BMP, ICO and CUR files."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from app.domain.headers import png
from app.domain.headers.layout import Layout, Wanted
from app.domain.headers.memory import decoding_bytes

_CORE_HEADER_BYTES = 12
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Covers the first chunk of a PNG.
_PNG_START_BYTES = 64
_CURSOR = 2


@dataclass(frozen=True, slots=True)
class IconEntry:
    """One picture of an ICO or CUR: its offset, and its size according to the directory."""

    offset: int
    size: int
    is_png: bool


def read(content: bytes, wanted: Wanted) -> Layout:
    """Return the layout of a BMP. Raises MALFORMED."""
    width, height = _size(content, 14)
    return Layout(
        width, height, decoder_bytes=decoding_bytes("bmp", abs(width) * height, (abs(width), height), 1, wanted)
    )


def shown_entry(content: bytes) -> IconEntry:
    """Return the entry of an ICO or CUR that Chromium shows, chosen by the directory. Raises MALFORMED.

    The largest entry wins, then the one with most bits, then the first. Entries that begin past the file are ignored.
    """
    kind, count = struct.unpack_from("<HH", content, 2)
    entries: list[tuple[tuple[int, int], IconEntry]] = []
    for at in range(6, min(6 + 16 * count, len(content) - 15), 16):
        width, height, colours, _, _, bits, size, offset = struct.unpack_from("<BBBBHHII", content, at)
        if offset + 16 > len(content):
            continue
        if kind == _CURSOR or not bits:
            # A cursor stores its hot spot in the field in which icons store their bits.
            bits = ((colours or 256) - 1).bit_length()
        is_png = content[offset : offset + 8] == _PNG_SIGNATURE
        entries.append((((width or 256) * (height or 256), bits), IconEntry(offset, size, is_png)))
    if not entries:
        raise ValueError("no entry")
    return max(entries, key=lambda ranked: ranked[0])[1]


def read_icon(content: bytes, wanted: Wanted) -> Layout:
    """Return the layout of the entry of an ICO or CUR that browsers show. Raises MALFORMED."""
    entry = shown_entry(content)
    if entry.is_png:
        inner = png.read(content[entry.offset : entry.offset + _PNG_START_BYTES], wanted)
        width, height, least = inner.width, inner.height, inner.decoder_bytes
    else:
        width, height = _size(content, entry.offset)
        # In an icon the height includes the mask.
        height, least = height // 2, 0
    cost = decoding_bytes("ico", width * height, (width, height), 1, wanted)
    return Layout(width, height, decoder_bytes=max(cost, least))


def _size(content: bytes, at: int) -> tuple[int, int]:
    (size,) = struct.unpack_from("<I", content, at)
    width, height = struct.unpack_from("<HH" if size == _CORE_HEADER_BYTES else "<ii", content, at + 4)
    return width, abs(height)
