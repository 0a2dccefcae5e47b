"""WebP taken apart and put together: RIFF chunks."""

from __future__ import annotations

import struct

Chunk = tuple[bytes, bytes]


def chunks(content: bytes) -> list[Chunk]:
    """Return the chunks of a whole WebP file."""
    found, at = [], 12
    while at + 8 <= len(content):
        (length,) = struct.unpack_from("<I", content, at + 4)
        found.append((content[at : at + 4], content[at + 8 : at + 8 + length]))
        at += 8 + length + (length & 1)
    return found


def joined(parts: list[Chunk]) -> bytes:
    """Return the file of these chunks."""
    body = b"".join(kind + struct.pack("<I", len(data)) + data + bytes(len(data) & 1) for kind, data in parts)
    return b"RIFF" + struct.pack("<I", 4 + len(body)) + b"WEBP" + body


def extended(width: int, height: int, flags: int) -> Chunk:
    """Return VP8X; flags: 2 animation, 4 XMP, 8 EXIF, 16 alpha, 32 ICC."""
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"VP8X", struct.pack("<I", flags) + sizes
