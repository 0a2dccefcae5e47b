"""Headers of JPEG 2000 files, boxed or a bare codestream."""

from __future__ import annotations

import struct

from app.domain.headers.layout import Layout, Wanted
from app.domain.headers.memory import decoding_bytes

CODESTREAM = b"\xff\x4f\xff\x51"
# The codestream's header follows a few small boxes; a colour profile is the largest of them.
_SEARCHED_BYTES = 16 * 1024 * 1024
_MAX_COMPONENTS = 16


def read(content: bytes, wanted: Wanted) -> Layout:
    """Return the layout by the codestream's own SIZ segment, which is what a decoder allocates. Raises MALFORMED."""
    at = content.find(CODESTREAM, 0, _SEARCHED_BYTES)
    if at < 0:
        raise ValueError("no codestream")
    right, bottom, left, top = struct.unpack_from(">4I", content, at + 8)
    (components,) = struct.unpack_from(">H", content, at + 40)
    if right <= left or bottom <= top:
        raise ValueError("an empty picture")
    if components > _MAX_COMPONENTS:
        raise ValueError(f"{components} components")
    width, height = right - left, bottom - top
    # The decoder keeps 32 bits for each sample, and half as much again for the wavelets of a tile.
    samples = width * height * max(3, components) // 3
    return Layout(width, height, decoder_bytes=decoding_bytes("jp2", samples, (width, height), 1, wanted))
