"""Headers of JPEG XL files, boxed or a bare codestream."""

from __future__ import annotations

from app.domain.headers.layout import MAX_BOXES, Layout, Wanted
from app.domain.headers.memory import pixel_bytes

CODESTREAM = b"\xff\x0a"
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
# Width by height for the seven ratios that the header may name.
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIZE_BITS = (9, 13, 18, 30)


def read(content: bytes, wanted: Wanted) -> Layout:
    """Return the layout; frames are not counted. Raises MALFORMED."""
    width, height = _size(_start(content))
    return Layout(width, height, decoder_bytes=pixel_bytes("jxl", width * height))


def _start(content: bytes) -> bytes:
    """Return the first bytes of the codestream."""
    if content.startswith(CODESTREAM):
        return content[:16]
    at = 0
    for _ in range(MAX_BOXES):
        size, kind, head = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        if kind == b"jxlc":
            return content[at + head : at + head + 16]
        if kind == b"jxlp":
            return content[at + head + 4 : at + head + 20]
        if size < head:
            break
        at += size
    raise ValueError("no codestream")


def _size(start: bytes) -> tuple[int, int]:
    if not start.startswith(CODESTREAM):
        raise ValueError("no codestream")
    bits, at = int.from_bytes(start, "little"), 16

    def take(count: int) -> int:
        nonlocal at
        value = (bits >> at) & ((1 << count) - 1)
        at += count
        return value

    def side(small: bool) -> int:
        return 8 * (take(5) + 1) if small else take(_SIZE_BITS[take(2)]) + 1

    small = bool(take(1))
    height = side(small)
    ratio = take(3)
    if ratio:
        across, down = _RATIOS[ratio - 1]
        return height * across // down, height
    return side(small), height
