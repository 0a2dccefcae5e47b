"""JPEG: sampling, colour models, orientation, profiles, damaged and cut files."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from tests.support.corpus import exif, profiles
from tests.support.corpus.case import Case, Closeness
from tests.support.corpus.jpeg_parts import EOI, SOI, Segment, inserted, joined, segments
from tests.support.corpus.picture import SAMPLES, array, base, saved

_case = functools.partial(Case, "jpeg", media_type="image/jpeg")


@functools.cache
def _plain(**options: Any) -> bytes:
    return saved(base(), "JPEG", **{"quality": 90, **options})


def _cut(share: float, **options: Any) -> bytes:
    content = _plain(**options)
    return content[: int(len(content) * share)]


def _icc(profile: bytes) -> bytes:
    return _plain(icc_profile=profile)


def _turned(value: int) -> bytes:
    return inserted(_plain(), Segment(0xE1, b"Exif\0\0" + exif.orientation(value)))


def _adobe(transform: int) -> Segment:
    return Segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes((transform,)))


def _cmyk(adobe: int | None, inverted: bool) -> bytes:
    """Return a picture of four components. Photoshop writes them inverted, with its APP14."""
    inks = array(base().convert("CMYK"))
    content = saved(Image.fromarray(255 - inks if inverted else inks, "CMYK"), "JPEG", quality=92, subsampling=0)
    parts = [one for one in segments(content) if one.marker not in (0xE0, 0xEE)]
    return joined([*([] if adobe is None else [_adobe(adobe)]), *parts])


def _ycck() -> bytes:
    """Return YCCK: the inverted inks C, M, Y are coded like RGB, K as it is."""
    inks = 255 - array(base().convert("CMYK"))
    coded = array(Image.fromarray(np.ascontiguousarray(inks[..., :3])).convert("YCbCr"))
    four = np.dstack([coded, inks[..., 3]])
    content = saved(Image.fromarray(np.ascontiguousarray(four), "CMYK"), "JPEG", quality=92, subsampling=0)
    parts = [one for one in segments(content) if one.marker not in (0xE0, 0xEE)]
    return joined([_adobe(2), *parts])


def _rgb_stored(marked: bool) -> bytes:
    """Return RGB that was never made YCbCr: by Adobe's marker, or by component ids R, G, B."""
    content = saved(base(), "JPEG", quality=90, keep_rgb=True)
    if marked:
        return content
    return joined([one for one in segments(content) if one.marker != 0xEE])


def _short_app14() -> bytes:
    return inserted(_plain(), Segment(0xEE, b"Adobe\0\x64\0"))


def _without(marker: int) -> bytes:
    return joined([one for one in segments(_plain()) if one.marker != marker])


def _restarts(broken: str) -> bytes:
    content = _plain(restart_marker_blocks=10)
    if broken == "missing":
        for number in range(8):
            content = content.replace(bytes((0xFF, 0xD0 + number)), b"", 1)
    if broken == "damaged":
        middle = content.find(b"\xff\xd3", len(content) // 2)
        content = content[: middle + 2] + bytes(20) + content[middle + 22 :]
    return content


def _damaged_scan() -> bytes:
    content = bytearray(_plain())
    middle = len(content) // 2
    content[middle : middle + 8] = b"\x12\x34\x56\x78\x9a\xbc\xde\x11"
    return bytes(content)


def _marker_in_scan() -> bytes:
    content = _plain()
    middle = len(content) // 2
    return content[:middle] + b"\xff\xe5" + content[middle:]


def _height(value: int) -> bytes:
    """Return the picture with another height in its frame header."""
    parts = []
    for one in segments(_plain()):
        body = one.body[:1] + value.to_bytes(2, "big") + one.body[3:] if one.marker == 0xC0 else one.body
        parts.append(Segment(one.marker, body, one.coded))
    return joined(parts)


def _twelve_bits() -> bytes:
    parts = []
    for one in segments(_plain()):
        marker, body = (0xC1, b"\x0c" + one.body[1:]) if one.marker == 0xC0 else (one.marker, one.body)
        parts.append(Segment(marker, body, one.coded))
    return joined(parts)


def _two_pictures() -> bytes:
    return _plain() + saved(base().transpose(Image.Transpose.ROTATE_180), "JPEG")


def cases() -> Iterator[Case]:
    """Yield the cases of JPEG."""
    lossy, colour = Closeness.LOSSY, Closeness.COLOUR
    yield _case("plain", closeness=lossy, build=_plain)
    yield _case("progressive", closeness=lossy, build=lambda: _plain(progressive=True))
    for name, code in (("4:4:4", 0), ("4:2:2", 1), ("4:2:0", 2)):
        yield _case(name, closeness=lossy, build=functools.partial(_plain, subsampling=code))
    yield _case("4:1:1", closeness=lossy, build=lambda: _plain(subsampling="4:1:1"))
    yield _case("grey", closeness=lossy, build=lambda: saved(base().convert("L"), "JPEG", quality=90))
    yield _case("arithmetic coding", closeness=lossy, build=(SAMPLES / "arithmetic.jpg").read_bytes)
    for value in range(1, 9):
        yield _case(f"EXIF orientation {value}", closeness=lossy, build=functools.partial(_turned, value))
    yield _case("EXIF orientation 9", closeness=lossy, build=lambda: _turned(9))
    yield _case("CMYK, Adobe, inverted", closeness=colour, build=lambda: _cmyk(0, True))
    yield _case("CMYK, Adobe, not inverted", closeness=colour, build=lambda: _cmyk(0, False))
    yield _case("CMYK without a marker", closeness=colour, build=lambda: _cmyk(None, False))
    yield _case("CMYK without a marker, inverted", closeness=colour, build=lambda: _cmyk(None, True))
    yield _case("YCCK", closeness=colour, build=_ycck)
    yield _case("RGB with Adobe's marker", closeness=lossy, build=lambda: _rgb_stored(True))
    yield _case("RGB by component ids", closeness=lossy, build=lambda: _rgb_stored(False))
    yield _case("ICC Display P3", closeness=colour, build=lambda: _icc(profiles.matrix(profiles.DISPLAY_P3)))
    yield _case("ICC Adobe RGB", closeness=colour, build=lambda: _icc(profiles.matrix(profiles.ADOBE_RGB, 2.2)))
    yield _case("ICC swaps red and green", closeness=colour, build=lambda: _icc(profiles.matrix(profiles.SWAPPED)))
    yield _case("ICC sRGB", closeness=lossy, build=lambda: _icc(profiles.matrix(profiles.SRGB)))
    yield _case("ICC junk", closeness=lossy, build=lambda: _icc(b"junk" * 50))
    yield _case("ICC cut off", closeness=lossy, build=lambda: _icc(profiles.matrix(profiles.SWAPPED)[:300]))
    yield _case("ICC of grey on colours", closeness=lossy, build=lambda: _icc(profiles.grey(1.0)))
    yield from _damaged()


def _damaged() -> Iterator[Case]:
    lossy = Closeness.LOSSY
    yield _case("last 20 bytes gone", closeness=lossy, build=lambda: _plain()[:-20], cut=True)
    yield _case("end marker gone", closeness=lossy, build=lambda: _plain()[:-2], cut=True)
    for share in (0.9, 0.5, 0.3):
        yield _case(f"cut at {share:.0%}", closeness=lossy, build=functools.partial(_cut, share), cut=True)
        yield _case(
            f"progressive, cut at {share:.0%}",
            closeness=lossy,
            build=functools.partial(_cut, share, progressive=True),
            cut=True,
        )
    yield _case("turned and cut", closeness=lossy, build=lambda: _turned(6)[:-800], cut=True)
    yield _case(
        "grey and cut", closeness=lossy, build=lambda: saved(base().convert("L"), "JPEG", quality=90)[:-800], cut=True
    )
    yield _case("CMYK and cut", closeness=Closeness.COLOUR, build=lambda: _cmyk(0, True)[:-1500], cut=True)
    yield _case(
        "wide gamut and cut",
        closeness=Closeness.COLOUR,
        build=lambda: _icc(profiles.matrix(profiles.SWAPPED))[:-800],
        cut=True,
    )
    yield _case(
        "cut before any pixel", closeness=lossy, build=lambda: _plain()[: _plain().find(b"\xff\xda") + 14], cut=True
    )
    yield _case("cut before the scan", closeness=lossy, build=lambda: _plain()[: _plain().find(b"\xff\xda")])
    yield _case(
        "stray bytes between segments", closeness=lossy, build=lambda: joined(segments(_plain()), between=b"\0\0stray")
    )
    yield _case(
        "stray bytes before the first segment", closeness=lossy, build=lambda: SOI + b"\xff\xff\xff" + _plain()[2:]
    )
    yield _case("short APP14", closeness=lossy, build=_short_app14)
    yield _case("without APP0", closeness=lossy, build=lambda: _without(0xE0))
    yield _case("without Huffman tables", closeness=lossy, build=lambda: _without(0xC4))
    yield _case("without quantisation tables", closeness=lossy, build=lambda: _without(0xDB))
    yield _case("restart markers", closeness=lossy, build=lambda: _restarts(""))
    yield _case("restart markers missing", closeness=lossy, build=lambda: _restarts("missing"))
    yield _case("damaged between restarts", closeness=lossy, build=lambda: _restarts("damaged"))
    yield _case("damaged in the scan", closeness=lossy, build=_damaged_scan)
    yield _case("a segment's marker in the scan", closeness=lossy, build=_marker_in_scan)
    yield _case("taller than its scan", closeness=lossy, build=lambda: _height(256))
    yield _case("shorter than its scan", closeness=lossy, build=lambda: _height(64))
    yield _case("height 0", closeness=lossy, build=lambda: _height(0))
    yield _case("12 bits announced", closeness=lossy, build=_twelve_bits)
    yield _case("1 MB of zeros behind", closeness=lossy, build=lambda: _plain() + bytes(1_000_000))
    yield _case("33 MB of zeros behind", closeness=lossy, build=lambda: _plain() + bytes(33 << 20))
    yield _case(
        "33 MB of zeros instead of the end", closeness=lossy, build=lambda: _plain()[:-2] + bytes(33 << 20), cut=True
    )
    yield _case("another picture behind", closeness=lossy, build=_two_pictures)
    yield _case(
        "EXIF cut off",
        closeness=lossy,
        build=lambda: inserted(_plain(), Segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\0\x09")),
    )
    yield _case(
        "100 comments of 64 kB",
        closeness=lossy,
        build=lambda: inserted(_plain(), *[Segment(0xFE, bytes(65_000))] * 100),
    )
    yield _case("two start markers", closeness=lossy, build=lambda: SOI + _plain())
    yield _case("end marker twice", closeness=lossy, build=lambda: _plain() + EOI)
