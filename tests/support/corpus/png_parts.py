"""PNG by hand: chunks, rows of any depth, and the order that Adam7 writes them in."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from typing import Any, Final

import numpy as np

SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
_ADAM7: Final = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))

Chunk = tuple[bytes, bytes]


def chunk(kind: bytes, body: bytes, checksum: int | None = None) -> bytes:
    """Return one chunk; `checksum` replaces the right one."""
    right = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", right if checksum is None else checksum)


def header(width: int, height: int, depth: int, kind: int, interlaced: bool = False) -> bytes:
    """Return the body of IHDR."""
    return struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, int(interlaced))


def rows(samples: Any, depth: int) -> bytes:
    """Return the rows of [height, width] or [height, width, channels], each with filter type 0, not compressed."""
    height = samples.shape[0]
    flat = samples.reshape(height, -1)
    if depth == 16:
        packed = flat.astype(">u2").view(np.uint8).reshape(height, -1)
    elif depth == 8:
        packed = flat.astype(np.uint8)
    else:
        bits = (flat[..., None] >> np.arange(depth - 1, -1, -1)) & 1
        packed = np.packbits(bits.reshape(height, -1).astype(np.uint8), axis=1)
    return b"".join(b"\0" + row.tobytes() for row in packed)


def interlaced_rows(samples: Any, depth: int) -> bytes:
    """Return the rows of the seven passes."""
    passes = (samples[top::down, left::right] for left, top, right, down in _ADAM7)
    return b"".join(rows(one, depth) for one in passes if one.shape[0] and one.shape[1])


def png(
    samples: Any,
    depth: int,
    kind: int,
    before: Iterable[Chunk] = (),
    interlaced: bool = False,
    after: Iterable[Chunk] = (),
) -> bytes:
    """Return a whole file; `before` are chunks between IHDR and IDAT, `after` those behind IDAT."""
    height, width = samples.shape[:2]
    body = interlaced_rows(samples, depth) if interlaced else rows(samples, depth)
    parts = [SIGNATURE, chunk(b"IHDR", header(width, height, depth, kind, interlaced))]
    parts += [chunk(*one) for one in before]
    parts += [chunk(b"IDAT", zlib.compress(body, 9))]
    parts += [chunk(*one) for one in after]
    return b"".join([*parts, chunk(b"IEND", b"")])


def chunks(content: bytes) -> list[Chunk]:
    """Return the chunks of a whole file."""
    found, at = [], len(SIGNATURE)
    while at < len(content):
        (length,) = struct.unpack_from(">I", content, at)
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def joined(parts: Iterable[Chunk]) -> bytes:
    """Return the file of these chunks."""
    return SIGNATURE + b"".join(chunk(*one) for one in parts)
