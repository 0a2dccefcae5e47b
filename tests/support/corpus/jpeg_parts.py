"""JPEG taken apart and put together: segments, and the entropy-coded bytes behind each scan header."""

from __future__ import annotations

import struct
from dataclasses import dataclass

SOI, EOI = b"\xff\xd8", b"\xff\xd9"
_BARE = frozenset({0x01, *range(0xD0, 0xDA)})


@dataclass(frozen=True, slots=True)
class Segment:
    """One marker, its body without the length, and the coded bytes that follow a scan header."""

    marker: int
    body: bytes
    coded: bytes = b""


def segments(content: bytes) -> list[Segment]:
    """Return the segments of a whole file between SOI and EOI."""
    found, at = [], 2
    while content[at : at + 2] != EOI:
        marker = content[at + 1]
        (length,) = struct.unpack_from(">H", content, at + 2)
        body, at = content[at + 4 : at + 2 + length], at + 2 + length
        start = at
        if marker == 0xDA:
            while content[at] != 0xFF or content[at + 1] == 0 or content[at + 1] in range(0xD0, 0xD8):
                at += 1
        found.append(Segment(marker, body, content[start:at]))
    return found


def segment(marker: int, body: bytes) -> bytes:
    """Return one segment with its length."""
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def joined(parts: list[Segment], between: bytes = b"", end: bytes = EOI) -> bytes:
    """Return the file; `between` is put after each segment but the scans."""
    written = b""
    for one in parts:
        written += segment(one.marker, one.body) + (one.coded or between)
    return SOI + written + end


def inserted(content: bytes, *extra: Segment) -> bytes:
    """Return the file with segments right after SOI."""
    return SOI + b"".join(segment(one.marker, one.body) for one in extra) + content[2:]
