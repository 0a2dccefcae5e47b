"""EXIF that says how a picture is turned."""

from __future__ import annotations

import struct


def orientation(value: int) -> bytes:
    """Return a TIFF structure with the orientation alone, without the prefix that JPEG puts before it."""
    return b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, value, 0, 0)
