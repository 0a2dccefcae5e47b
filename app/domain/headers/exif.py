"""Orientation in an EXIF block."""

from __future__ import annotations

import struct

from app.domain.headers.layout import MALFORMED

_ORIENTATION_TAG = 0x0112
_SHORT = 3
# Far more entries than any camera writes into the first directory.
_MAX_ENTRIES = 4096


def exif_orientation(exif: bytes) -> int:
    """Return the orientation, 1 to 8, of a block that begins with its TIFF header; 1 where unreadable. Never raises."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    try:
        (at,) = struct.unpack_from(order + "I", exif, 4)
        (count,) = struct.unpack_from(order + "H", exif, at)
        for entry in range(at + 2, at + 2 + 12 * min(count, _MAX_ENTRIES), 12):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, entry)
            if tag == _ORIENTATION_TAG and kind == _SHORT:
                return int(value) if 1 <= value <= 8 else 1
    except MALFORMED:
        return 1
    return 1
