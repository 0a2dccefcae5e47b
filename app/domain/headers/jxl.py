"""Headers of JPEG XL files, boxed or a bare codestream."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.headers.layout import MAX_BOXES, Layout, Wanted
from app.domain.headers.memory import decoding_bytes

CODESTREAM = b"\xff\x0a"
CONTAINER = b"\0\0\0\x0cJXL \r\n\x87\n"
# Width by height for the seven ratios that the header may name.
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))
_SIZE_BITS = (9, 13, 18, 30)
_HEADER_BYTES = 256
# Number of frames that the memory bound of an animation includes; they are decoded together. A longer animation may
# reach the memory limit of the process.
_DECODED_TOGETHER = 8


@dataclass(frozen=True, slots=True)
class JxlHeader:
    """Facts from the codestream. `primaries` and `transfer` by ITU-T H.273; 0 if defined by a profile or unknown."""

    width: int
    height: int
    animated: bool = False
    primaries: int = 1
    transfer: int = 13


def read(content: bytes, wanted: Wanted) -> Layout:
    """Return the layout. Raises MALFORMED.

    An animation counts the frames that are kept, because only decoding reveals their number.
    """
    header = read_header(content)
    frames = wanted.frames if header.animated else 1
    pixels = header.width * header.height * (_DECODED_TOGETHER if header.animated else 1)
    cost = decoding_bytes("jxl", pixels, (header.width, header.height), frames, wanted)
    return Layout(header.width, header.height, decoder_bytes=cost)


def read_header(content: bytes) -> JxlHeader:
    """Return size, frames and colours of the codestream. Raises MALFORMED."""
    start = _start(content)
    if not start.startswith(CODESTREAM):
        raise ValueError("no codestream")
    fields = _Fields(start)
    width, height = _size(fields)
    if fields.take(1):  # all other fields have their default values
        return JxlHeader(width, height)
    try:
        animated = _extra_fields(fields) if fields.take(1) else False
    except IndexError:
        return JxlHeader(width, height)
    try:
        _skip_depth(fields)
        fields.take(1)
        for _ in range(fields.choice((0, 0), (1, 0), (4, 2), (12, 1))):
            _skip_channel(fields)
        fields.take(1)
        return JxlHeader(width, height, animated, *_colours(fields))
    except (IndexError, ValueError):
        return JxlHeader(width, height, animated)


class _Fields:
    """Reader of bit fields, the least significant bit first."""

    def __init__(self, start: bytes) -> None:
        self._bits, self._left = int.from_bytes(start, "little") >> 16, 8 * len(start) - 16

    def take(self, count: int) -> int:
        """Return the next `count` bits. Raises IndexError past the end of the bytes."""
        if count > self._left:
            raise IndexError("the bits end")
        value = self._bits & ((1 << count) - 1)
        self._bits >>= count
        self._left -= count
        return value

    def choice(self, *options: tuple[int, int]) -> int:
        """Return a number in the U32 coding: two bits select one of four (offset, bits)."""
        offset, bits = options[self.take(2)]
        return offset + self.take(bits)


def _start(content: bytes) -> bytes:
    """Return the first bytes of the codestream."""
    if content.startswith(CODESTREAM):
        return content[:_HEADER_BYTES]
    at = 0
    for _ in range(MAX_BOXES):
        size, kind, head = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8], 8
        if size == 1:
            size, head = int.from_bytes(content[at + 8 : at + 16], "big"), 16
        if kind == b"jxlc":
            return content[at + head : at + head + _HEADER_BYTES]
        if kind == b"jxlp":
            return content[at + head + 4 : at + head + 4 + _HEADER_BYTES]
        if size < head:
            break
        at += size
    raise ValueError("no codestream")


def _size(fields: _Fields) -> tuple[int, int]:
    def side(small: bool) -> int:
        return 8 * (fields.take(5) + 1) if small else fields.take(_SIZE_BITS[fields.take(2)]) + 1

    small = bool(fields.take(1))
    height = side(small)
    ratio = fields.take(3)
    if ratio:
        across, down = _RATIOS[ratio - 1]
        return height * across // down, height
    return side(small), height


def _extra_fields(fields: _Fields) -> bool:
    """Skip orientation, intrinsic size and preview. Return whether the picture is an animation."""
    fields.take(3)
    if fields.take(1):
        _size(fields)
    if fields.take(1):
        raise ValueError("a preview")  # no encoder writes one
    if not fields.take(1):
        return False
    fields.choice((100, 0), (1000, 0), (1, 10), (1, 30))
    fields.choice((1, 0), (1001, 0), (1, 8), (1, 10))
    fields.choice((0, 0), (0, 3), (0, 16), (0, 32))
    fields.take(1)
    return True


def _skip_depth(fields: _Fields) -> None:
    if fields.take(1):
        fields.choice((32, 0), (16, 0), (24, 0), (1, 6))
        fields.take(4)
    else:
        fields.choice((8, 0), (10, 0), (12, 0), (1, 6))


def _enumeration(fields: _Fields) -> int:
    return fields.choice((0, 0), (1, 0), (2, 4), (18, 6))


def _skip_channel(fields: _Fields) -> None:
    if fields.take(1):
        return
    kind = _enumeration(fields)
    _skip_depth(fields)
    fields.choice((0, 0), (3, 0), (4, 0), (1, 3))
    fields.take(8 * fields.choice((0, 0), (0, 4), (16, 5), (48, 10)))
    if kind == 0:
        fields.take(1)
    elif kind == 2:
        fields.take(64)
    elif kind == 5:
        fields.choice((1, 0), (0, 2), (3, 4), (19, 8))


def _colours(fields: _Fields) -> tuple[int, int]:
    """Return primaries and transfer."""
    if fields.take(1):
        return 1, 13
    if fields.take(1):
        return 0, 0
    space = _enumeration(fields)
    if space == 2:
        return 1, 13
    if _enumeration(fields) != 1:
        return 0, 0
    primaries = 1 if space == 1 else {1: 1, 9: 9, 11: 12}.get(_enumeration(fields), 0)
    if not primaries or fields.take(1):
        return 0, 0
    return primaries, _enumeration(fields)
