"""BMP: headers of all ages, palettes, bit fields, run lengths, and cut files."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.support.corpus.bmp_parts import bmp, core_header, info_header, packed, palette, rle4, rle8, rle24
from tests.support.corpus.case import Case, Closeness
from tests.support.corpus.picture import HEIGHT, WIDTH, alpha, array, base, cut_at

_case = functools.partial(Case, "bmp", media_type="image/bmp", closeness=Closeness.EXACT)
_SIZE = (WIDTH, HEIGHT)


@functools.cache
def _indexed(bits: int) -> tuple[Any, bytes]:
    image = base().quantize(1 << bits)
    return array(image), bytes(image.getpalette() or [])[: 3 << bits]


def _rgb24(header: bytes | None = None, flip: bool = True) -> bytes:
    pixels = array(base())[..., ::-1]
    rows = packed(pixels[::-1] if flip else pixels, 8)
    return bmp(header or info_header(*_SIZE, 24), b"", rows)


def _palette(bits: int, size: int = 40, quad: int = 4, **options: Any) -> bytes:
    indices, colours = _indexed(bits)
    header = core_header(*_SIZE, bits) if size == 12 else info_header(*_SIZE, bits, size=size, **options)
    return bmp(header, palette(colours, quad), packed(indices[::-1], bits))


def _fields(bits: int, masks: tuple[int, int, int, int], size: int = 40, compression: int = 3) -> bytes:
    """Return a picture whose channels lie where `masks` say (red, green, blue, alpha)."""
    samples = array(alpha() if masks[3] else base()).astype(np.uint64)
    words = np.zeros(samples.shape[:2], dtype=np.uint64)
    for channel, mask in enumerate(masks):
        if mask:
            low = (mask & -mask).bit_length() - 1
            most = mask >> low
            words |= (samples[..., channel] * most + 127) // 255 << np.uint64(low)
    rows = words[::-1].astype(f"<u{bits // 8}").tobytes()
    listed = struct.pack(
        "<3I" if size == 40 and compression == 3 else "<4I", *masks[: 3 if size == 40 and compression == 3 else 4]
    )
    if size == 40:
        return bmp(info_header(*_SIZE, bits, compression=compression), listed, rows)
    return bmp(info_header(*_SIZE, bits, size=size, compression=compression, masks=masks), b"", rows)


def _plain32(fourth: int, size: int = 40) -> bytes:
    """Return 32 bits without bit fields; the fourth byte means nothing."""
    pixels = np.dstack([array(base())[..., ::-1], np.full((HEIGHT, WIDTH), fourth, dtype=np.uint8)])
    return bmp(info_header(*_SIZE, 32, size=size), b"", pixels[::-1].tobytes())


def _plain16() -> bytes:
    samples = array(base()).astype(np.uint16) >> 3
    words = samples[..., 0] << 10 | samples[..., 1] << 5 | samples[..., 2]
    return bmp(info_header(*_SIZE, 16), b"", words[::-1].astype("<u2").tobytes())


def _run_lengths(bits: int, **options: Any) -> bytes:
    if bits == 24:
        return bmp(info_header(*_SIZE, 24, size=64, compression=4), b"", rle24(array(base())[::-1, :, ::-1]))
    indices, colours = _indexed(bits)
    coded = (rle8 if bits == 8 else rle4)(indices[::-1], **options)
    return bmp(info_header(*_SIZE, bits, compression=1 if bits == 8 else 2), palette(colours), coded)


def _wrapped(kind: str) -> bytes:
    """Return a BMP that carries a whole PNG or JPEG."""
    from tests.support.corpus.picture import saved

    return bmp(info_header(*_SIZE, 0, compression=4 if kind == "JPEG" else 5), b"", saved(base(), kind))


def _offset(value: int) -> bytes:
    content = _rgb24()
    return content[:10] + struct.pack("<I", value) + content[14:]


def cases() -> Iterator[Case]:
    """Yield the cases of BMP."""
    yield _case("plain, 24 bit", build=_rgb24)
    yield _case("from the top down", build=lambda: _rgb24(info_header(WIDTH, -HEIGHT, 24), flip=False))
    for bits in (1, 2, 4, 8):
        yield _case(f"palette, {bits} bit", build=functools.partial(_palette, bits))
    yield _case("palette with fewer colours", build=lambda: _palette(8, colours=40))
    yield _case("palette longer than it may be", build=lambda: _palette(8, colours=3000))
    yield _case("16 bit", build=_plain16)
    yield _case("32 bit, fourth byte 0", build=lambda: _plain32(0))
    yield _case("32 bit, fourth byte 128", build=lambda: _plain32(128))
    yield _case("32 bit, version 4 without bit fields", build=lambda: _plain32(128, size=108))
    yield from _bit_fields()
    yield _case("OS/2 version 1, 24 bit", build=lambda: _rgb24(core_header(*_SIZE, 24)))
    for bits in (1, 4, 8):
        yield _case(f"OS/2 version 1, {bits} bit", build=functools.partial(_palette, bits, 12, 3))
    yield _case("OS/2 version 2, 24 bit", build=lambda: _rgb24(info_header(*_SIZE, 24, size=64)))
    yield _case("OS/2 version 2, 8 bit", build=lambda: _palette(8, 64))
    yield _case("OS/2 version 2, 16 byte header", build=lambda: _rgb24(info_header(*_SIZE, 24, size=16)))
    for bits in (4, 8, 24):
        yield _case(f"RLE{bits}", build=functools.partial(_run_lengths, bits))
    yield _case("RLE8 with jumps", build=lambda: _run_lengths(8, jumps=True))
    yield _case("RLE8 without its end", build=lambda: _run_lengths(8, end=False))
    yield _case("RLE8, cut at 50%", build=cut_at(0.5, lambda: _run_lengths(8)), cut=True)
    for size in (52, 56, 108, 124):
        yield _case(f"header of {size} bytes", build=functools.partial(_rgb24, info_header(*_SIZE, 24, size=size)))
    yield _case("a PNG inside", build=lambda: _wrapped("PNG"))
    yield _case("a JPEG inside", build=lambda: _wrapped("JPEG"))
    for share in (0.9, 0.5, 0.01):
        yield _case(f"cut at {share:.0%}", build=cut_at(share, _rgb24), cut=True)
    yield _case("last byte gone", build=lambda: _rgb24()[:-1], cut=True)
    yield _case("offset 0", build=lambda: _offset(0))
    yield _case("offset into the header", build=lambda: _offset(20))
    yield _case("size of file 0", build=lambda: _rgb24()[:2] + bytes(4) + _rgb24()[6:])
    yield _case("planes 0", build=lambda: _rgb24()[:26] + bytes(2) + _rgb24()[28:])
    yield _case("bytes behind the picture", build=lambda: _rgb24() + b"trailing" * 100)


def _bit_fields() -> Iterator[Case]:
    r565, r555 = (0xF800, 0x7E0, 0x1F, 0), (0x7C00, 0x3E0, 0x1F, 0)
    yield _case("16 bit fields 5-6-5", build=lambda: _fields(16, r565))
    yield _case("16 bit fields 5-5-5", build=lambda: _fields(16, r555))
    yield _case("16 bit fields 4-4-4-4, version 4", build=lambda: _fields(16, (0xF00, 0xF0, 0xF, 0xF000), 108))
    yield _case("16 bit fields 1-5-5-5, version 5", build=lambda: _fields(16, (*r555[:3], 0x8000), 124))
    yield _case("32 bit fields, usual order", build=lambda: _fields(32, (0xFF0000, 0xFF00, 0xFF, 0)))
    yield _case("32 bit fields, other order", build=lambda: _fields(32, (0xFF, 0xFF00, 0xFF0000, 0)))
    yield _case("32 bit fields at odd places", build=lambda: _fields(32, (0xFF00, 0xFF0000, 0xFF000000, 0)))
    yield _case("32 bit fields 10-10-10", build=lambda: _fields(32, (0x3FF00000, 0xFFC00, 0x3FF, 0)))
    yield _case("32 bit fields 11-11-10", build=lambda: _fields(32, (0xFFE00000, 0x1FFC00, 0x3FF, 0)))
    yield _case("32 bit fields 3-4-5", build=lambda: _fields(32, (0x7, 0x78, 0xF80, 0)))
    yield _case(
        "32 bit fields with alpha, version 4", build=lambda: _fields(32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 108)
    )
    yield _case(
        "32 bit fields with alpha, version 5", build=lambda: _fields(32, (0xFF, 0xFF00, 0xFF0000, 0xFF000000), 124)
    )
    yield _case(
        "32 bit fields with alpha, version 3", build=lambda: _fields(32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 56)
    )
    yield _case("32 bit fields, version 2", build=lambda: _fields(32, (0xFF0000, 0xFF00, 0xFF, 0), 52))
    yield _case("alpha bit fields", build=lambda: _fields(32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), compression=6))
