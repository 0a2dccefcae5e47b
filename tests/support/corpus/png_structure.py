"""PNG whose chunks are in unusual order, doubled, empty or missing, and whose rows are unusual."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

from tests.support.corpus.case import Case, Closeness
from tests.support.corpus.picture import HEIGHT, WIDTH, alpha, array, base, second
from tests.support.corpus.png_parts import GREY, PALETTE, RGB, RGBA, Chunk, chunks, header, joined, png, rows

_case = functools.partial(Case, "png", media_type="image/png", closeness=Closeness.EXACT)


def _rgb(*before: Chunk) -> bytes:
    return png(array(base()), 8, RGB, before)


def _parts() -> list[Chunk]:
    return chunks(_rgb())


def _idat_in_two(between: Chunk) -> bytes:
    first, (_, coded), *rest = _parts()
    half = len(coded) // 2
    return joined([first, (b"IDAT", coded[:half]), between, (b"IDAT", coded[half:]), *rest])


def _filtered(kind: int) -> bytes:
    """Return rows that are all filtered by Sub (1), Up (2) or Average of nothing; 5 is no filter at all."""
    pixels = array(base()).reshape(HEIGHT, -1).astype(np.int16)
    if kind == 1:
        pixels[:, 3:] -= pixels[:, :-3].copy()
    if kind == 2:
        pixels[1:] -= pixels[:-1].copy()
    coded = b"".join(bytes((kind,)) + row.tobytes() for row in (pixels & 255).astype(np.uint8))
    return joined([(b"IHDR", header(WIDTH, HEIGHT, 8, RGB)), (b"IDAT", zlib.compress(coded)), (b"IEND", b"")])


def _stored() -> bytes:
    """Return pixels in blocks that are not compressed."""
    coded = zlib.compress(rows(array(base()), 8), 0)
    return joined([(b"IHDR", header(WIDTH, HEIGHT, 8, RGB)), (b"IDAT", coded), (b"IEND", b"")])


def _index_beyond() -> bytes:
    """Return indices up to 255 and a palette of 128."""
    image = base().quantize(256)
    return png(array(image), 8, PALETTE, [(b"PLTE", bytes(image.getpalette() or [])[: 3 * 128])])


def _no_palette() -> bytes:
    return png(array(base().quantize(256)), 8, PALETTE)


def _grey_transparent(depth: int) -> bytes:
    grey: Any = array(base().convert("L")).astype(np.uint16)
    grey[32:96, 32:96] = 200
    samples, value = (grey * 257, 200 * 257) if depth == 16 else (grey, 200)
    return png(samples, depth, GREY, [(b"tRNS", struct.pack(">H", value))])


def _twice(kind: bytes) -> bytes:
    parts = _parts()
    if kind == b"IHDR":
        return joined([parts[0], (b"IHDR", header(80, 64, 8, RGB)), *parts[1:]])
    return joined([*parts[:-1], (b"IDAT", zlib.compress(rows(array(second()), 8))), parts[-1]])


def _phone() -> bytes:
    """Return what Apple's tools make: a chunk before IHDR, raw deflate, blue first."""
    coded = zlib.compress(rows(array(base())[..., ::-1], 8))[2:-4]
    return joined([(b"CgBI", bytes(4)), _parts()[0], (b"IDAT", coded), (b"IEND", b"")])


def cases() -> Iterator[Case]:
    """Yield the cases of unusual structure."""
    yield _case("text between the pixels", build=lambda: _idat_in_two((b"tEXt", b"Comment\0between")))
    yield _case("empty IDAT between the pixels", build=lambda: _idat_in_two((b"IDAT", b"")))
    yield _case("rows filtered by Sub", build=lambda: _filtered(1))
    yield _case("rows filtered by Up", build=lambda: _filtered(2))
    yield _case("unknown filter", build=lambda: _filtered(5))
    yield _case("not compressed", build=_stored)
    yield _case("index beyond the palette", build=_index_beyond)
    yield _case("palette missing", build=_no_palette)
    yield _case("grey, 8 bit, transparent value", build=lambda: _grey_transparent(8))
    yield _case("grey, 16 bit, transparent value", build=lambda: _grey_transparent(16))
    yield _case(
        "background colour", build=lambda: png(array(alpha()), 8, RGBA, [(b"bKGD", struct.pack(">3H", 255, 0, 0))])
    )
    yield _case("alpha, interlaced", build=lambda: png(array(alpha()), 8, RGBA, interlaced=True))
    yield _case("two headers", build=lambda: _twice(b"IHDR"))
    yield _case("more rows than announced", build=lambda: _twice(b"IDAT"))
    yield _case("Apple's own form", build=_phone)
    yield _case("sBIT of 5 bits", build=lambda: _rgb((b"sBIT", b"\5\5\5")))
    yield _case("pixels are not square", build=lambda: _rgb((b"pHYs", struct.pack(">IIB", 2000, 1000, 1))))
    yield _case("1 x 1", build=lambda: png(array(base())[:1, :1], 8, RGB))
    yield _case("line of 1 x 4000", build=lambda: png(np.resize(array(base())[:, :1], (4000, 1, 3)), 8, RGB))
