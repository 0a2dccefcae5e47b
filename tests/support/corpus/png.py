"""PNG: depths, colour types, colour spaces, damaged and cut files."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterator

import numpy as np

from tests.support.corpus import exif, profiles
from tests.support.corpus.case import Case, Closeness
from tests.support.corpus.picture import alpha, array, base, cut_at
from tests.support.corpus.png_parts import (
    GREY,
    GREY_ALPHA,
    PALETTE,
    RGB,
    RGBA,
    SIGNATURE,
    Chunk,
    chunk,
    chunks,
    header,
    joined,
    png,
    rows,
)

_case = functools.partial(Case, "png", media_type="image/png")


def _rgb(*before: Chunk, interlaced: bool = False, after: tuple[Chunk, ...] = ()) -> bytes:
    return png(array(base()), 8, RGB, before, interlaced, after)


def _grey(depth: int) -> bytes:
    grey = array(base().convert("L")).astype(np.uint16)
    return png(grey * 257 if depth == 16 else grey >> (8 - depth), depth, GREY)


def _palette(depth: int, transparent: bool = False) -> bytes:
    image = base().quantize(1 << depth)
    colours = bytes(image.getpalette() or [])[: 3 << depth]
    before = [(b"PLTE", colours)]
    if transparent:
        before.append((b"tRNS", bytes(255 * (number % 3) // 2 for number in range(1 << depth))))
    return png(array(image), depth, PALETTE, before)


def _rgb16(kind: int) -> bytes:
    samples = array(base() if kind == RGB else alpha()).astype(np.uint16) * 257
    return png(samples, 16, kind)


def _wrong_checksum(kind: bytes) -> bytes:
    body = b"Comment\0" + bytes(range(65, 90)) if kind == b"tEXt" else struct.pack(">IIB", 2835, 2835, 1)
    before = () if kind == b"IDAT" else (chunk(kind, body, 0xDEADBEEF),)
    data = zlib.compress(rows(array(base()), 8), 9)
    idat = chunk(b"IDAT", data, 0xDEADBEEF if kind == b"IDAT" else None)
    ihdr = chunk(b"IHDR", header(160, 128, 8, RGB), 0xDEADBEEF if kind == b"IHDR" else None)
    return b"".join([SIGNATURE, ihdr, *(before if kind != b"IHDR" else ()), idat, chunk(b"IEND", b"")])


def _split_idat() -> bytes:
    parts = []
    for kind, body in chunks(_rgb()):
        step = 1 if kind == b"IDAT" and len(body) < 64 else 1000
        parts += (
            [(kind, body[at : at + step]) for at in range(0, max(len(body), 1), step)]
            if kind == b"IDAT"
            else [(kind, body)]
        )
    return joined(parts)


def _second_idat_damaged() -> bytes:
    parts = chunks(_split_idat())
    places = [at for at, (kind, _) in enumerate(parts) if kind == b"IDAT"]
    middle = places[len(places) // 2]
    parts[middle] = (b"IDAT", bytes(len(parts[middle][1])))
    return joined(parts)


def _adler_wrong() -> bytes:
    parts = [(kind, body[:-4] + b"\0\0\0\0" if kind == b"IDAT" else body) for kind, body in chunks(_rgb())]
    return joined(parts)


def _unknown_critical() -> bytes:
    return _rgb((b"ABCD", b"nobody knows this chunk"))


def _too_few_rows() -> bytes:
    data = zlib.compress(rows(array(base())[:64], 8), 9)
    return joined([(b"IHDR", header(160, 128, 8, RGB)), (b"IDAT", data), (b"IEND", b"")])


def _cicp(primaries: int, transfer: int) -> Chunk:
    return b"cICP", bytes((primaries, transfer, 0, 1))


def _iccp(profile: bytes) -> Chunk:
    return b"iCCP", b"test\0\0" + zlib.compress(profile)


def _gama(value: int) -> Chunk:
    return b"gAMA", struct.pack(">I", value)


_WIDE_CHRM = b"cHRM", struct.pack(">8I", 31270, 32900, 70800, 29200, 17000, 79700, 13100, 4600)
_SRGB_CHRM = b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)


def cases() -> Iterator[Case]:
    """Yield the cases of PNG without animation."""
    exact, colour = Closeness.EXACT, Closeness.COLOUR
    yield _case("plain", closeness=exact, build=_rgb)
    yield _case("interlaced", closeness=exact, build=lambda: _rgb(interlaced=True))
    for depth in (1, 2, 4, 8, 16):
        yield _case(f"grey, {depth} bit", closeness=exact, build=functools.partial(_grey, depth))
    for depth in (1, 2, 4, 8):
        yield _case(f"palette, {depth} bit", closeness=exact, build=functools.partial(_palette, depth))
    yield _case("palette with transparency", closeness=exact, build=lambda: _palette(4, transparent=True))
    yield _case("RGB, 16 bit", closeness=exact, build=lambda: _rgb16(RGB))
    yield _case("alpha", closeness=exact, build=lambda: png(array(alpha()), 8, RGBA))
    yield _case("alpha, 16 bit", closeness=exact, build=lambda: _rgb16(RGBA))
    yield _case("grey with alpha", closeness=exact, build=lambda: png(array(alpha().convert("LA")), 8, GREY_ALPHA))
    yield _case("transparent colour", closeness=exact, build=lambda: _rgb((b"tRNS", struct.pack(">3H", 255, 0, 0))))
    yield _case("hidden in the alpha channel", closeness=exact, build=_hidden_in_alpha)
    yield from _damaged()
    yield _case("sRGB chunk", closeness=exact, build=lambda: _rgb((b"sRGB", b"\0"), _gama(45455), _SRGB_CHRM))
    yield _case("gAMA 1.0", closeness=colour, build=lambda: _rgb(_gama(100000), _SRGB_CHRM))
    yield _case("gAMA 1.0 without cHRM", closeness=colour, build=lambda: _rgb(_gama(100000)))
    yield _case("gAMA 2.2", closeness=colour, build=lambda: _rgb(_gama(45455)))
    yield _case("gAMA tiny", closeness=colour, build=lambda: _rgb(_gama(1)))
    yield _case("cHRM of a wide gamut", closeness=colour, build=lambda: _rgb(_gama(45455), _WIDE_CHRM))
    yield _case("cHRM alone", closeness=colour, build=lambda: _rgb(_WIDE_CHRM))
    yield _case("cICP Display P3", closeness=colour, build=lambda: _rgb(_cicp(12, 13)))
    yield _case("cICP BT.2020", closeness=colour, build=lambda: _rgb(_cicp(9, 13)))
    yield _case("cICP PQ", closeness=colour, build=lambda: _rgb(_cicp(9, 16)))
    yield _case("cICP HLG", closeness=colour, build=lambda: _rgb(_cicp(9, 18)))
    yield _case("ICC Display P3", closeness=colour, build=lambda: _rgb(_iccp(profiles.matrix(profiles.DISPLAY_P3))))
    yield _case("ICC Adobe RGB", closeness=colour, build=lambda: _rgb(_iccp(profiles.matrix(profiles.ADOBE_RGB, 2.2))))
    yield _case("ICC sRGB", closeness=exact, build=lambda: _rgb(_iccp(profiles.matrix(profiles.SRGB))))
    yield _case(
        "ICC swaps red and green", closeness=colour, build=lambda: _rgb(_iccp(profiles.matrix(profiles.SWAPPED)))
    )
    yield _case("ICC junk", closeness=exact, build=lambda: _rgb(_iccp(b"junk" * 40)))
    yield _case("ICC of grey, gamma 1", closeness=colour, build=_grey_profile)
    yield _case("ICC wide, with alpha", closeness=colour, build=_wide_alpha)
    yield _case("EXIF says: turned", closeness=exact, build=lambda: _rgb((b"eXIf", exif.orientation(6))))
    yield _case("EXIF behind the picture", closeness=exact, build=lambda: _rgb(after=((b"eXIf", exif.orientation(6)),)))


def _damaged() -> Iterator[Case]:
    exact = Closeness.EXACT
    for share in (0.98, 0.5, 0.1, 0.02):
        yield _case(f"cut at {share:.0%}", closeness=exact, build=cut_at(share, _rgb), cut=True)
        yield _case(
            f"interlaced, cut at {share:.0%}",
            closeness=exact,
            build=cut_at(share, lambda: _rgb(interlaced=True)),
            cut=True,
        )
    yield _case("palette, cut", closeness=exact, build=cut_at(0.6, lambda: _palette(8)), cut=True)
    yield _case("16 bit, cut", closeness=exact, build=cut_at(0.6, lambda: _rgb16(RGB)), cut=True)
    yield _case("alpha, cut", closeness=exact, build=cut_at(0.6, lambda: png(array(alpha()), 8, RGBA)), cut=True)
    yield _case("cut before IEND", closeness=exact, build=lambda: _rgb()[:-12], cut=True)
    yield _case("cut before any pixel", closeness=exact, build=lambda: _rgb()[:41], cut=True)
    for kind in (b"tEXt", b"pHYs", b"IDAT", b"IHDR"):
        yield _case(
            f"wrong checksum of {kind.decode()}", closeness=exact, build=functools.partial(_wrong_checksum, kind)
        )
    yield _case("wrong Adler checksum", closeness=exact, build=_adler_wrong)
    yield _case("pixels in many chunks", closeness=exact, build=_split_idat)
    yield _case("pixels damaged in the middle", closeness=exact, build=_second_idat_damaged, cut=True)
    yield _case("fewer rows than announced", closeness=exact, build=_too_few_rows, cut=True)
    yield _case("unknown critical chunk", closeness=exact, build=_unknown_critical)
    yield _case("tEXt of 12 MB", closeness=exact, build=lambda: _rgb((b"tEXt", b"Comment\0" + b"x" * 12_000_000)))
    yield _case(
        "zTXt of 80 MB",
        closeness=exact,
        build=lambda: _rgb((b"zTXt", b"Comment\0\0" + zlib.compress(bytes(80_000_000), 9))),
    )
    yield _case("bytes behind the picture", closeness=exact, build=lambda: _rgb() + b"trailing" * 100)
    yield _case("bytes before the signature", closeness=exact, build=lambda: b"\0" + _rgb())


def _hidden_in_alpha() -> bytes:
    grey = array(base().convert("L"))
    return png(np.dstack([np.full((*grey.shape, 3), 255, dtype=np.uint8), grey]), 8, RGBA)


def _grey_profile() -> bytes:
    return png(array(base().convert("L")), 8, GREY, [_iccp(profiles.grey(1.0))])


def _wide_alpha() -> bytes:
    return png(array(alpha()), 8, RGBA, [_iccp(profiles.matrix(profiles.ADOBE_RGB, 2.2))])
