"""ICO and CUR: several entries, PNG and BMP inside, masks, and damaged directories."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from tests.support.corpus.bmp_parts import info_header, packed, palette
from tests.support.corpus.case import Case, Closeness
from tests.support.corpus.picture import alpha, array, base, cut_at, saved, second

_case = functools.partial(Case, "ico", media_type="image/x-icon", closeness=Closeness.EXACT)
_cursor = functools.partial(Case, "cur", media_type="image/x-icon", closeness=Closeness.EXACT)


@dataclass(frozen=True, slots=True)
class _Entry:
    """`size` is what the directory says, 0 for 256; `bits` are the depth, of a cursor the second hot spot."""

    body: bytes
    size: tuple[int, int]
    bits: int = 32
    planes: int = 1
    length: int | None = None


def _icon(*entries: _Entry, kind: int = 1, count: int | None = None) -> bytes:
    at = 6 + 16 * len(entries)
    head = struct.pack("<HHH", 0, kind, len(entries) if count is None else count)
    bodies = b""
    for one in entries:
        length = len(one.body) if one.length is None else one.length
        head += struct.pack("<BBBBHHII", *one.size, 0, 0, one.planes, one.bits, length, at + len(bodies))
        bodies += one.body
    return head + bodies


def _sized(image: Image.Image, side: int) -> Image.Image:
    return image.resize((side, side))


def _png(image: Image.Image, side: int = 64) -> bytes:
    return saved(_sized(image, side), "PNG")


def _mask(side: int) -> Any:
    """Return the bits that hide a band of the picture."""
    mask = np.zeros((side, side), dtype=np.uint8)
    mask[side // 4 : side // 2] = 1
    return mask


def _bitmap(image: Image.Image, bits: int, side: int = 64, masked: bool = True, opaque: int | None = None) -> bytes:
    """Return the BMP of an entry: a header of twice the height, the picture, and the mask of one bit."""
    small = _sized(image, side)
    header = info_header(side, 2 * side, bits)
    mask = packed(_mask(side)[::-1], 1) if masked else b""
    if bits == 32:
        pixels = array(small.convert("RGBA"))[::-1].copy()
        if opaque is not None:
            pixels[..., 3] = opaque
        return header + packed(pixels[..., (2, 1, 0, 3)], 8) + mask
    if bits == 24:
        return header + packed(array(small.convert("RGB"))[::-1, :, ::-1], 8) + mask
    reduced = small.convert("RGB").quantize(1 << bits)
    colours = bytes(reduced.getpalette() or [])[: 3 << bits].ljust(3 << bits, b"\0")
    return header + palette(colours) + packed(array(reduced)[::-1], bits) + mask


def _many() -> tuple[_Entry, ...]:
    """Return a small entry, a large one of few colours, a large one of many, and a middle one."""
    return (
        _Entry(_bitmap(second(), 32, 16), (16, 16)),
        _Entry(_bitmap(second(), 4, 64), (64, 64), 4),
        _Entry(_bitmap(base(), 24, 64), (64, 64), 24),
        _Entry(_png(second(), 32), (32, 32)),
    )


def _masked(bits: int) -> bytes:
    return _icon(_Entry(_bitmap(base(), bits), (64, 64), bits))


def _lying() -> bytes:
    """Return two PNG entries whose directory says that the small one is large, and the large one small."""
    return _icon(_Entry(_png(second(), 16), (128, 128)), _Entry(_png(base(), 128), (16, 16)))


def cases() -> Iterator[Case]:
    """Yield the cases of ICO and CUR."""
    yield _case("PNG", build=lambda: _icon(_Entry(_png(base()), (64, 64))))
    yield _case("PNG with alpha", build=lambda: _icon(_Entry(_png(alpha()), (64, 64))))
    yield _case("PNG of 256", build=lambda: _icon(_Entry(_png(base(), 256), (0, 0))))
    yield _case("PNG larger than 256", build=lambda: _icon(_Entry(_png(base(), 400), (0, 0))))
    for bits in (1, 4, 8, 24):
        yield _case(f"BMP, {bits} bit, masked", build=functools.partial(_masked, bits))
    yield _case("BMP, 32 bit with alpha", build=lambda: _icon(_Entry(_bitmap(alpha(), 32), (64, 64))))
    yield _case("BMP, 32 bit, alpha all 0", build=lambda: _icon(_Entry(_bitmap(base(), 32, opaque=0), (64, 64))))
    yield _case("BMP, 24 bit, no mask", build=lambda: _icon(_Entry(_bitmap(base(), 24, masked=False), (64, 64), 24)))
    yield _case("several entries", build=lambda: _icon(*_many()))
    yield _case(
        "two of one size, by depth",
        build=lambda: _icon(_Entry(_bitmap(second(), 8), (64, 64), 8), _Entry(_bitmap(base(), 24), (64, 64), 24)),
    )
    yield _case("two alike", build=lambda: _icon(_Entry(_png(base()), (64, 64)), _Entry(_png(second()), (64, 64))))
    yield _case("directory lies about sizes", build=_lying)
    yield _case("directory lies about lengths", build=lambda: _icon(_Entry(_png(base()), (64, 64), length=10)))
    yield _case("more entries announced", build=lambda: _icon(_Entry(_png(base()), (64, 64)), count=2))
    yield _case(
        "largest entry damaged",
        build=lambda: _icon(_Entry(_png(base(), 32), (32, 32)), _Entry(b"junk" * 100, (64, 64))),
    )
    yield _case("cut at 60%", build=cut_at(0.6, lambda: _icon(_Entry(_png(base()), (64, 64)))), cut=True)
    yield _case("BMP, cut at 60%", build=cut_at(0.6, lambda: _masked(24)), cut=True)
    yield _cursor("PNG", build=lambda: _icon(_Entry(_png(base()), (64, 64), 10, 10), kind=2))
    yield _cursor("BMP, 24 bit, masked", build=lambda: _icon(_Entry(_bitmap(base(), 24), (64, 64), 10, 10), kind=2))
    yield _cursor("several entries", build=lambda: _icon(*_many(), kind=2))
