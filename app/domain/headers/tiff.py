"""Headers of TIFF files: pages, and the tiles and strips that a decoder allocates."""

from __future__ import annotations

import struct

from app.domain.headers.layout import Layout, Wanted
from app.domain.headers.memory import DECODED_BYTES, decoding_bytes

_WIDTH, _HEIGHT, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT = 256, 257, 258, 277, 322, 323
_READ = frozenset({_WIDTH, _HEIGHT, _BITS, _SAMPLES, _TILE_WIDTH, _TILE_HEIGHT})
# `struct` formats of the integer tag types: BYTE, SHORT, LONG, LONG8.
_VALUES = {1: "B", 3: "H", 4: "I", 16: "Q"}
# Bound of the entries of all directories together; each takes about a microsecond.
_MAX_ENTRIES = 200_000


def read(content: bytes, wanted: Wanted) -> Layout:
    """Return the layout: size of the first page, and the largest page or tile of the file. Raises MALFORMED."""
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    pointer, number, entry_bytes = ("Q", "Q", 20) if big else ("I", "H", 12)
    (at,) = struct.unpack_from(order + pointer, content, 8 if big else 4)
    first: dict[int, int] | None = None
    decoded, decoded_bytes, entries = (0, 0), 0, 0
    frames = 0
    seen: set[int] = set()
    while at and frames <= wanted.max_frames:
        if at in seen:
            raise ValueError("a circle of directories")
        if at >= len(content):
            raise ValueError("a directory outside the file")
        seen.add(at)
        (count,) = struct.unpack_from(order + number, content, at)
        start = at + struct.calcsize(order + number)
        after = start + count * entry_bytes
        entries += min(count, 4096)
        if entries > _MAX_ENTRIES:
            raise ValueError("too many entries of directories")
        page = _entries(content, order, big, start, min(after, start + 4096 * entry_bytes))
        if first is None:
            if _WIDTH not in page or _HEIGHT not in page:
                raise ValueError("no size in the first directory")
            first = page
        size, cost = _cost(page)
        if size[0] * size[1] > decoded[0] * decoded[1]:
            decoded = size
        decoded_bytes = max(decoded_bytes, cost)
        frames += 1
        if after + struct.calcsize(order + pointer) > len(content):
            break
        (at,) = struct.unpack_from(order + pointer, content, after)
    if first is None:
        raise ValueError("no size in the first directory")
    width, height = first[_WIDTH], first[_HEIGHT]
    cost = decoding_bytes("tiff", 0, (width, height), frames, wanted) + decoded_bytes
    return Layout(width, height, frames, *decoded, decoder_bytes=cost)


def _entries(content: bytes, order: str, big: bool, start: int, end: int) -> dict[int, int]:
    """Return the largest value of each tag of one directory: decoders differ in which of two equal tags they use."""
    page: dict[int, int] = {}
    step, room, pointer = (20, 8, "Q") if big else (12, 4, "I")
    for entry in range(start, end, step):
        tag, kind, many = struct.unpack_from(order + "HH" + pointer, content, entry)
        if tag not in _READ:
            continue
        value = _VALUES.get(kind)
        if value is None:
            # Pillow accepts text and fractions as a size too, but no encoder writes them.
            raise ValueError(f"tag {tag} is of type {kind}")
        at = entry + step - room
        if many * struct.calcsize(value) > room:
            # Values that do not fit into the entry are stored elsewhere; decoders use the first of them.
            (at,) = struct.unpack_from(order + pointer, content, at)
        (number,) = struct.unpack_from(order + value, content, at)
        page[tag] = max(number, page.get(tag, 0))
    return page


def _cost(page: dict[int, int]) -> tuple[tuple[int, int], int]:
    """Return the size that is decoded at once, and the sum of the bytes of page and tile."""
    width, height = page.get(_WIDTH, 0), page.get(_HEIGHT, 0)
    tile = (page.get(_TILE_WIDTH, 0), page.get(_TILE_HEIGHT, 0))
    sample_bytes = max(1, -(-min(page.get(_BITS, 8), 64) * min(page.get(_SAMPLES, 1), 16) // 8))
    largest = (max(width, tile[0]), max(height, tile[1]))
    pixels = width * height
    return largest, pixels * DECODED_BYTES["tiff"] + (tile[0] * tile[1] + pixels) * sample_bytes
