"""WebP: lossy, lossless, alpha, animations, headers that lie, and cut files."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from PIL import Image

from tests.support.corpus import exif, profiles
from tests.support.corpus.case import Case, Closeness
from tests.support.corpus.picture import HEIGHT, WIDTH, alpha, base, cut_at, saved, second
from tests.support.corpus.riff import chunks, extended, joined

_case = functools.partial(Case, "webp", media_type="image/webp")


@functools.cache
def _webp(lossless: bool = False, transparent: bool = False) -> bytes:
    return saved(alpha() if transparent else base(), "WEBP", lossless=lossless, quality=90)


def _animated(transparent: bool = False, **options: Any) -> bytes:
    frames: list[Image.Image] = [second(), base()]
    if transparent:
        frames = [alpha(), second().convert("RGBA").rotate(30)]
    wanted: dict[str, Any] = {"lossless": True, "duration": [20, 1000], "loop": 0, **options}
    return saved(frames[0], "WEBP", save_all=True, append_images=frames[1:], **wanted)


def _with(name: bytes, flag: int, body: bytes, first: bool) -> bytes:
    picture = chunks(_webp())
    extra = [(name, body)]
    return joined([extended(WIDTH, HEIGHT, flag), *(extra + picture if first else picture + extra)])


def _oriented(value: int, prefix: bytes = b"") -> bytes:
    return _with(b"EXIF", 8, prefix + exif.orientation(value), first=False)


def _size_lies(width: int, height: int, flags: int = 0) -> bytes:
    return joined([extended(width, height, flags), *chunks(_webp())])


def _alpha_flag(flag: int) -> bytes:
    parts = [(kind, body) for kind, body in chunks(_webp(transparent=True)) if kind != b"VP8X"]
    return joined([extended(WIDTH, HEIGHT, flag), *parts])


def _riff_size(content: bytes, size: int) -> bytes:
    return content[:4] + size.to_bytes(4, "little") + content[8:]


def _frame_damaged(number: int) -> bytes:
    parts = chunks(_animated())
    places = [at for at, (kind, _) in enumerate(parts) if kind == b"ANMF"]
    body = parts[places[number]][1]
    parts[places[number]] = (b"ANMF", body[:40] + bytes(len(body) - 40))
    return joined(parts)


def cases() -> Iterator[Case]:
    """Yield the cases of WebP."""
    lossy, exact, colour = Closeness.LOSSY, Closeness.EXACT, Closeness.COLOUR
    yield _case("lossy", closeness=lossy, build=_webp)
    yield _case("lossless", closeness=exact, build=lambda: _webp(lossless=True))
    yield _case("lossy with alpha", closeness=lossy, build=lambda: _webp(transparent=True))
    yield _case("lossless with alpha", closeness=exact, build=lambda: _webp(lossless=True, transparent=True))
    yield _case("alpha without its flag", closeness=lossy, build=lambda: _alpha_flag(0))
    yield _case("two frames", closeness=exact, build=_animated)
    yield _case("two frames, lossy", closeness=lossy, build=lambda: _animated(lossless=False, quality=90))
    yield _case("two frames with alpha", closeness=exact, build=lambda: _animated(transparent=True))
    yield _case("two frames, small changes", closeness=exact, build=lambda: _animated(minimize_size=True))
    yield _case(
        "background colour", closeness=exact, build=lambda: _animated(transparent=True, background=(255, 0, 0, 255))
    )
    for value in (3, 6):
        yield _case(f"EXIF orientation {value}", closeness=lossy, build=functools.partial(_oriented, value))
    yield _case("EXIF with JPEG's prefix", closeness=lossy, build=lambda: _oriented(6, b"Exif\0\0"))
    swapped = profiles.matrix(profiles.SWAPPED)
    yield _case("ICC swaps red and green", closeness=colour, build=lambda: _with(b"ICCP", 32, swapped, first=True))
    yield _case("ICC without its flag", closeness=colour, build=lambda: _with(b"ICCP", 0, swapped, first=True))
    yield _case("ICC junk", closeness=lossy, build=lambda: _with(b"ICCP", 32, b"junk" * 40, first=True))
    yield _case("VP8X says larger", closeness=lossy, build=lambda: _size_lies(320, 256))
    yield _case("VP8X says smaller", closeness=lossy, build=lambda: _size_lies(80, 64))
    yield _case("VP8X says animated", closeness=lossy, build=lambda: _size_lies(WIDTH, HEIGHT, 2))
    yield _case("unknown chunk", closeness=lossy, build=lambda: _with(b"ABCD", 0, b"nobody knows this", first=True))
    yield _case("RIFF says shorter", closeness=lossy, build=lambda: _riff_size(_webp(), 200))
    yield _case("RIFF says longer", closeness=lossy, build=lambda: _riff_size(_webp(), 1 << 20), cut=True)
    yield _case("bytes behind the picture", closeness=lossy, build=lambda: _webp() + b"trailing" * 100)
    yield _case("first frame damaged", closeness=exact, build=lambda: _frame_damaged(0))
    yield _case("second frame damaged", closeness=exact, build=lambda: _frame_damaged(1))
    for share in (0.98, 0.5, 0.2):
        yield _case(f"lossy, cut at {share:.0%}", closeness=lossy, build=cut_at(share, _webp), cut=True)
        yield _case(
            f"lossless, cut at {share:.0%}",
            closeness=exact,
            build=cut_at(share, lambda: _webp(True)),
            cut=True,
        )
    yield _case("alpha, cut at 70%", closeness=lossy, build=cut_at(0.7, lambda: _webp(transparent=True)), cut=True)
    yield _case("two frames, cut in the second", closeness=exact, build=cut_at(0.8, _animated), cut=True)
    yield _case("two frames, cut in the first", closeness=exact, build=cut_at(0.3, _animated), cut=True)
