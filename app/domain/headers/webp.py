"""Headers of WebP files: canvas (VP8X), pictures inside it, frames, EXIF block."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from app.domain.headers.layout import MAX_BLOCKS, Layout, Wanted
from app.domain.headers.memory import decoding_bytes

_ANIMATED = 2


def chunks(content: bytes, at: int = 12, end: int = 0) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start, size) of the chunks from `at` up to `end`; 0 means the end of the file."""
    end = min(end or len(content), len(content))
    for _ in range(MAX_BLOCKS):
        if at + 8 > end:
            return
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        yield content[at : at + 4], at + 8, size
        at += 8 + size + (size & 1)
    raise ValueError("too many chunks")


def read(content: bytes, wanted: Wanted) -> Layout:
    """Return the layout: the size of the canvas if present, else of the picture. The larger of both is decoded.

    Raises MALFORMED.
    """
    canvas: tuple[int, int] | None = None
    largest, alpha, frames, animated = (0, 0), False, 0, False
    for kind, start, size in chunks(content):
        if kind == b"VP8X" and canvas is None:
            animated = bool(content[start] & _ANIMATED)
            canvas = (_24(content, start + 4) + 1, _24(content, start + 7) + 1)
        elif kind == b"ALPH":
            alpha = True
        elif kind == b"ANMF" and animated:
            frames += 1
            largest = _larger(largest, (_24(content, start + 6) + 1, _24(content, start + 9) + 1))
            for inner, inner_start, _ in chunks(content, start + 16, start + size):
                if inner in (b"VP8 ", b"VP8L"):
                    largest = _larger(largest, _picture(inner, content, inner_start))
            if frames > wanted.max_frames:
                break
        elif kind in (b"VP8 ", b"VP8L") and not animated:
            largest, alpha = _picture(kind, content, start), alpha or kind == b"VP8L"
            break
    width, height = canvas or largest
    if not largest[0] or not width:
        raise ValueError("no VP8 chunk")
    decoded = (max(width, largest[0]), max(height, largest[1]))
    decoder = "webp animated" if frames > 1 else "webp alpha" if alpha else "webp"
    cost = decoding_bytes(decoder, decoded[0] * decoded[1], (width, height), frames, wanted)
    return Layout(width, height, max(1, frames), *decoded, decoder_bytes=cost)


def picture_end(content: bytes) -> int:
    """Return the size of the RIFF container, or 0 if the file is shorter."""
    size = int.from_bytes(content[4:8], "little") + 8
    return size if size <= len(content) else 0


def exif(content: bytes) -> bytes:
    """Return the EXIF block without the prefix before its TIFF header; empty if absent. Raises MALFORMED."""
    for kind, start, size in chunks(content):
        if kind == b"EXIF":
            block = content[start : start + min(size, 65_536)]
            return block[6:] if block.startswith(b"Exif\0\0") else block
    return b""


def _picture(kind: bytes, content: bytes, start: int) -> tuple[int, int]:
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, start + 1)
        return (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", content, start + 6)
    return width & 0x3FFF, height & 0x3FFF


def _24(content: bytes, at: int) -> int:
    if at + 3 > len(content):
        raise ValueError("the file ends inside its header")
    return int.from_bytes(content[at : at + 3], "little")


def _larger(first: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return max(first[0], other[0]), max(first[1], other[1])
