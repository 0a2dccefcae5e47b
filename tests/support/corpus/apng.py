"""APNG: the default image outside the animation, disposal, blending, and damaged files."""

from __future__ import annotations

import functools
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tests.support.corpus import exif, profiles
from tests.support.corpus.case import Case, Closeness
from tests.support.corpus.picture import HEIGHT, WIDTH, alpha, array, base, cut_at, second
from tests.support.corpus.png_parts import RGB, RGBA, SIGNATURE, Chunk, chunk, header, rows

_case = functools.partial(Case, "apng", media_type="image/png", closeness=Closeness.EXACT)
_NONE, _BACKGROUND, _PREVIOUS = 0, 1, 2
_SOURCE, _OVER = 0, 1


@dataclass(frozen=True, slots=True, eq=False)
class _Frame:
    pixels: Any
    left: int = 0
    top: int = 0
    delay: tuple[int, int] = (1, 10)
    dispose: int = _NONE
    blend: int = _SOURCE


def _apng(
    *frames: _Frame,
    hidden: Any = None,
    count: int | None = None,
    plays: int = 0,
    before: tuple[Chunk, ...] = (),
    damaged: int | None = None,
) -> bytes:
    """Return a file; `hidden` is a default image outside the animation, `damaged` the frame that is broken."""
    kind = RGBA if frames[0].pixels.shape[2] == 4 else RGB
    parts = [SIGNATURE, chunk(b"IHDR", header(WIDTH, HEIGHT, 8, kind)), *(chunk(*one) for one in before)]
    parts.append(chunk(b"acTL", struct.pack(">II", len(frames) if count is None else count, plays)))
    if hidden is not None:
        parts.append(chunk(b"IDAT", zlib.compress(rows(hidden, 8))))
    sequence = 0
    for number, one in enumerate(frames):
        height, width = one.pixels.shape[:2]
        placed = struct.pack(">IIIII", sequence, width, height, one.left, one.top)
        parts.append(chunk(b"fcTL", placed + struct.pack(">HHBB", *one.delay, one.dispose, one.blend)))
        sequence += 1
        coded = zlib.compress(rows(one.pixels, 8))
        if number == damaged:
            coded = coded[: len(coded) // 2] + bytes(len(coded) // 2)
        if number == 0 and hidden is None:
            parts.append(chunk(b"IDAT", coded))
        else:
            parts.append(chunk(b"fdAT", struct.pack(">I", sequence) + coded))
            sequence += 1
    return b"".join([*parts, chunk(b"IEND", b"")])


def _one() -> Any:
    return array(base())


def _other() -> Any:
    return array(second())


def _clear() -> Any:
    return array(alpha())


def _patch() -> Any:
    """Return a small half transparent square."""
    patch = np.zeros((64, 80, 4), dtype=np.uint8)
    patch[..., 0] = 255
    patch[..., 3] = np.linspace(0, 255, 80).astype(np.uint8)
    return patch


def _operations(dispose: int, blend: int) -> bytes:
    opaque = np.dstack([_one(), np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)])
    placed = _Frame(_patch(), 40, 32, dispose=dispose, blend=blend)
    return _apng(_Frame(opaque), placed, _Frame(_clear()[:96, :120], 8, 8, blend=_OVER))


def cases() -> Iterator[Case]:
    """Yield the cases of APNG."""
    yield _case("two frames", build=lambda: _apng(_Frame(_one()), _Frame(_other())))
    yield _case(
        "default image outside the animation",
        build=lambda: _apng(_Frame(_one()), _Frame(_other()), hidden=255 - _one()),
    )
    yield _case("default image outside, one frame", build=lambda: _apng(_Frame(_other()), hidden=_one()))
    yield _case("one frame", build=lambda: _apng(_Frame(_one())))
    yield _case("plays once", build=lambda: _apng(_Frame(_one()), _Frame(_other()), plays=1))
    for dispose, name in ((_NONE, "none"), (_BACKGROUND, "background"), (_PREVIOUS, "previous")):
        for blend, how in ((_SOURCE, "source"), (_OVER, "over")):
            yield _case(f"disposal {name}, blend {how}", build=functools.partial(_operations, dispose, blend))
    yield _case(
        "first frame with disposal previous",
        build=lambda: _apng(_Frame(_clear(), dispose=_PREVIOUS), _Frame(_patch(), 40, 32, blend=_OVER)),
    )
    yield _case("first frame smaller, default image outside", build=_small_first)
    yield _case("a frame that sticks out", build=lambda: _apng(_Frame(_one()), _Frame(_other(), left=60, top=40)))
    yield _case("fewer frames than announced", build=lambda: _apng(_Frame(_one()), _Frame(_other()), count=5))
    yield _case("more frames than announced", build=lambda: _apng(*[_Frame(_one()), _Frame(_other())] * 2, count=2))
    yield _case("no frames announced", build=lambda: _apng(_Frame(_one()), _Frame(_other()), count=0))
    yield _case("second frame damaged", build=lambda: _apng(_Frame(_one()), _Frame(_other()), damaged=1), cut=True)
    yield _case("first frame damaged", build=lambda: _apng(_Frame(_one()), _Frame(_other()), damaged=0), cut=True)
    yield _case("cut in the second frame", build=cut_at(0.8, lambda: _apng(_Frame(_one()), _Frame(_other()))), cut=True)
    yield _case("cut in the first frame", build=cut_at(0.3, lambda: _apng(_Frame(_one()), _Frame(_other()))), cut=True)
    yield _case(
        "default image outside, cut in the first frame",
        build=cut_at(0.5, lambda: _apng(_Frame(_one()), _Frame(_other()), hidden=_other())),
        cut=True,
    )
    yield _case(
        "default image outside, cut before the frames",
        build=cut_at(0.25, lambda: _apng(_Frame(_one()), _Frame(_other()), hidden=_other())),
        cut=True,
    )
    yield _case(
        "turned by EXIF",
        build=lambda: _apng(_Frame(_one()), _Frame(_other()), before=((b"eXIf", exif.orientation(6)),)),
    )
    wide = (b"iCCP", b"test\0\0" + zlib.compress(profiles.matrix(profiles.SWAPPED)))
    yield Case(
        "apng",
        "ICC swaps red and green",
        "image/png",
        Closeness.COLOUR,
        lambda: _apng(_Frame(_one()), _Frame(_other()), before=(wide,)),
    )


def _small_first() -> bytes:
    return _apng(_Frame(_patch(), 40, 32), _Frame(_clear()), hidden=_clear())
