"""Headers of JPEG 2000 files, boxed or a bare codestream."""

from __future__ import annotations

import struct

from app.domain.headers.layout import Layout, Wanted
from app.domain.headers.memory import decoding_bytes

CODESTREAM = b"\xff\x4f\xff\x51"
# The codestream's header follows a few small boxes, of which a colour profile is the largest.
_SEARCHED_BYTES = 16 * 1024 * 1024
_MAX_COMPONENTS = 16
# 64 megapixels in tiles of 128 x 128 pixels; the decoder keeps some kilobytes for each tile.
_MAX_TILES = 4096
_CODING_STYLE = b"\xff\x52"
# OpenJPEG's records of a code block or precinct, and their lists.
_BLOCK_BYTES = 256


def read(content: bytes, wanted: Wanted) -> Layout:
    """Return the layout: the size of the codestream, or the size in the boxes if that is larger. Raises MALFORMED."""
    at = content.find(CODESTREAM, 0, _SEARCHED_BYTES)
    if at < 0:
        raise ValueError("no codestream")
    right, bottom, left, top, tile_width, tile_height = struct.unpack_from(">6I", content, at + 8)
    (components,) = struct.unpack_from(">H", content, at + 40)
    width, height = right - left, bottom - top
    if width <= 0 or height <= 0 or not tile_width or not tile_height:
        raise ValueError("an empty picture")
    if components > _MAX_COMPONENTS:
        raise ValueError(f"{components} components")
    if -(-right // tile_width) * -(-bottom // tile_height) > _MAX_TILES:
        raise ValueError("too many tiles")
    # The file reader allocates by the size in the box, the decoder by the size in the codestream.
    box = content.find(b"ihdr", 0, at)
    box_height, box_width = struct.unpack_from(">II", content, box + 4) if box >= 0 else (0, 0)
    decoded = (max(width, box_width), max(height, box_height))
    samples = decoded[0] * decoded[1] * max(3, components) // 3
    cost = decoding_bytes("jp2", samples, (width, height), 1, wanted)
    blocks = width * height * components // _smallest_block(content, at)
    return Layout(width, height, 1, *decoded, decoder_bytes=cost + blocks * _BLOCK_BYTES)


def _smallest_block(content: bytes, at: int) -> int:
    """Return the samples of the smallest unit that the decoder keeps a record of: a code block or a precinct."""
    at = content.find(_CODING_STYLE, at, at + 4096)
    if at < 0:
        return 16
    precincts, levels = content[at + 4] & 1, content[at + 9]
    smallest = 1 << (content[at + 10] & 15) + (content[at + 11] & 15) + 4
    if precincts:
        sizes = content[at + 14 : at + 15 + min(levels, 32)]
        smallest = min([smallest, *(1 << (size & 15) + (size >> 4) for size in sizes)])
    return smallest
