"""GIF: transparency, disposal, places, and damaged endings."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

from tests.support.corpus.case import Case, Closeness
from tests.support.corpus.gif_parts import LOOP, TRAILER, GifFrame, control, gif, image, screen, sub_blocks
from tests.support.corpus.picture import HEIGHT, WIDTH, array, base, cut_at, second

_case = functools.partial(Case, "gif", media_type="image/gif", closeness=Closeness.EXACT)
_SIZE = (WIDTH, HEIGHT)


@functools.cache
def _indexed(which: str) -> tuple[Any, bytes]:
    """Return the indices and the palette; 255 is used by no pixel."""
    source = base() if which == "base" else second()
    reduced = source.quantize(255, dither=Image.Dither.NONE)
    colours = bytes(reduced.getpalette() or [])[: 3 * 256]
    return array(reduced), colours.ljust(3 * 256, b"\0")


def _plain(**options: Any) -> bytes:
    indices, palette = _indexed("base")
    return gif(_SIZE, palette, GifFrame(indices, **options))


def _two(first: dict[str, Any] | None = None, last: dict[str, Any] | None = None, loop: bytes = LOOP) -> bytes:
    """Return an animation: the picture, then another one with a palette of its own."""
    indices, palette = _indexed("base")
    others, other_palette = _indexed("second")
    frames = GifFrame(indices, **(first or {})), GifFrame(others, palette=other_palette, **(last or {}))
    return gif(_SIZE, palette, *frames, loop=loop)


def _with_holes(disposal: int) -> bytes:
    """Return three frames; the second covers a part, the third has transparent pixels through which one sees."""
    indices, palette = _indexed("base")
    others, other_palette = _indexed("second")
    small = np.full((64, 80), 10, dtype=np.uint8)
    holes = others.copy()
    holes[16:112, 24:136] = 255
    return gif(
        _SIZE,
        palette,
        GifFrame(indices),
        GifFrame(small, left=40, top=32, disposal=disposal),
        GifFrame(holes, transparent=255, palette=other_palette),
    )


def _first_disposed(disposal: int) -> bytes:
    indices, palette = _indexed("base")
    small = np.full((64, 80), 10, dtype=np.uint8)
    return gif(_SIZE, palette, GifFrame(indices, disposal=disposal), GifFrame(small, left=40, top=32))


def _transparent(version: bytes = b"89a") -> bytes:
    indices, palette = _indexed("base")
    holes = indices.copy()
    holes[40:72] = 255
    frame = GifFrame(holes, transparent=255)
    return screen(*_SIZE, palette, version=version) + control(frame) + image(frame) + TRAILER


def _first_transparent() -> bytes:
    others, palette = _indexed("second")
    empty = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    return gif(_SIZE, palette, GifFrame(empty, transparent=255), GifFrame(others, delay=100))


def _placed(left: int, top: int, screen_size: tuple[int, int] = _SIZE, background: int = 0) -> bytes:
    indices, palette = _indexed("base")
    return gif(screen_size, palette, GifFrame(indices, left=left, top=top), background=background)


def _no_trailer() -> bytes:
    return _plain()[:-1]


def _bad_end() -> bytes:
    """Return a file whose codes never end, and that is filled with bytes that are no block."""
    return _plain()[:-20] + b"\xff" * 19 + TRAILER


def _first_code_not_clear() -> bytes:
    content = _plain()
    at = content.find(b"\x2c") + 10 + 2
    return content[:at] + bytes((content[at] ^ 0x03,)) + content[at + 1 :]


def _no_colours() -> bytes:
    """Return a file without any palette."""
    indices, _ = _indexed("base")
    frame = GifFrame(indices)
    return screen(*_SIZE, b"") + control(frame) + image(frame) + TRAILER


def _extensions() -> bytes:
    indices, palette = _indexed("base")
    comment = b"\x21\xfe" + sub_blocks(b"a comment " * 2000)
    unknown = b"\x21\x77" + sub_blocks(b"nobody knows this")
    frame = GifFrame(indices)
    return screen(*_SIZE, palette) + comment + unknown + control(frame) + image(frame) + comment + TRAILER


def cases() -> Iterator[Case]:
    """Yield the cases of GIF."""
    yield _case("plain", build=_plain)
    yield _case("interlaced", build=lambda: _plain(interlaced=True))
    yield _case("GIF87a with a transparent colour", build=lambda: _transparent(b"87a"))
    yield _case("transparent colour", build=_transparent)
    yield _case("no palette", build=_no_colours)
    yield _case("comments and unknown extensions", build=_extensions)
    yield _case("two frames", build=_two)
    yield _case("two frames, no loop count", build=lambda: _two(loop=b""))
    yield _case("two frames, the first for no time", build=lambda: _two({"delay": 0}, {"delay": 1000}))
    yield _case("first frame transparent", build=_first_transparent)
    for disposal in range(5):
        yield _case(f"disposal {disposal} under holes", build=functools.partial(_with_holes, disposal))
    for disposal in (1, 2, 3):
        yield _case(f"first frame with disposal {disposal}", build=functools.partial(_first_disposed, disposal))
    yield _case("frame inside the screen", build=lambda: _placed(20, 12, (200, 160)))
    yield _case("background colour around the frame", build=lambda: _placed(20, 12, (200, 160), background=40))
    yield _case("first frame sticks out", build=lambda: _placed(20, 12))
    yield _case("screen larger than anything", build=lambda: _placed(0, 0, (800, 640)))
    yield _case("screen of no size", build=lambda: _placed(0, 0, (0, 0)))
    yield _case("second frame sticks out", build=lambda: _two(None, {"left": 60, "top": 40}))
    yield _case("trailer missing", build=_no_trailer)
    yield _case("codes end badly", build=_bad_end)
    yield _case("first code is not the clear code", build=_first_code_not_clear)
    for share in (0.97, 0.5, 0.1):
        yield _case(f"cut at {share:.0%}", build=cut_at(share, _plain), cut=True)
    yield _case("interlaced, cut at 50%", build=cut_at(0.5, lambda: _plain(interlaced=True)), cut=True)
    yield _case("two frames, cut in the second", build=cut_at(0.8, _two), cut=True)
    yield _case("two frames, cut in the first", build=cut_at(0.3, _two), cut=True)
    yield _case("bytes behind the trailer", build=lambda: _plain() + b"trailing" * 100)
