"""Pictures that Skia, Chromium's graphics library, decodes: PNG, GIF, WebP, BMP, ICO, CUR, and unusual JPEGs.

Skia does not copy its input: the content must outlive the codec. The functions in this module ensure that.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from app.domain.headers.layout import reduction
from app.inference.decoding.pixels import reduced, straight
from app.inference.decoding.selection import choose_frames
from app.inference.decoding.skia_library import load_skia
from app.inference.model_input import Pixels

_SCALES: Final = {2: 0.5, 4: 0.25, 8: 0.125}


class SkiaRefusal(Exception):
    """Error: Skia finds no picture in a content.

    Operator: nothing: another decoder is tried, else the image is rejected as `undecodable`.
    """


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """One decoded frame: straight RGBA or opaque RGB. `truncated`: the content ends before the frame does.

    `source`: width and height before reduction; zeros if the size in the header applies.
    """

    index: int
    pixels: Pixels
    truncated: bool
    source: tuple[int, int] = (0, 0)


def still(content: bytes | memoryview, smallest_side: int, *, managed: bool = True, scale: int = 1) -> Raster:
    """Return the picture, or the first frame, reduced. Raises SkiaRefusal.

    `managed` converts to sRGB; otherwise the values are those of the file. `scale` (1, 2, 4 or 8): the decoder divides
    the sides by it, for JPEG and WebP only. Missing parts of a truncated picture are transparent, as in Chromium.
    """
    codec = _open(content)
    width, height = _scaled(codec, scale)
    canvas = np.zeros((height, width, 4), np.uint8)
    truncated = _decode(codec, canvas, 0, -1, managed)
    return Raster(0, straight(reduced(canvas, smallest_side)), truncated)


def frames(content: bytes, smallest_side: int, most: int, max_frames: int) -> tuple[int, Iterator[Raster]]:
    """Return the number of frames and an iterator over the chosen ones, composited. Raises SkiaRefusal.

    Memory is two canvases for any number of frames. Time is that of all frames on which the chosen ones depend.
    """
    codec = _open(content)
    count = codec.getFrameCount()
    if count < 2 or count > max_frames:
        return max(1, count), iter((_reduced_still(content, codec, smallest_side),) if count < 2 else ())
    infos = list(codec.getFrameInfo())
    chosen = choose_frames([info.fDuration for info in infos], most)
    return count, _composited(content, codec, infos, chosen, smallest_side)


def _reduced_still(content: bytes, codec: Any, smallest_side: int) -> Raster:
    """Return the only frame, reduced by the decoder as far as possible: a large WebP takes a fraction of its canvas."""
    factor = reduction(*_scaled(codec, 1), smallest_side)
    scale = max((choice for choice in _SCALES if choice <= factor), default=1)
    return still(content, smallest_side, scale=scale)


def _composited(
    content: bytes, codec: Any, infos: list[Any], chosen: tuple[int, ...], smallest_side: int
) -> Iterator[Raster]:
    skia = load_skia()

    width, height = _scaled(codec, 1)
    canvas = np.zeros((height, width, 4), np.uint8)
    held = -1  # index of the frame on `canvas`; later frames may depend on it
    for target in chosen:
        chain = [target]
        while (before := infos[chain[-1]].fRequiredFrame) >= 0 and not before <= held < chain[-1]:
            chain.append(before)
        truncated = False
        shown = canvas
        for index in reversed(chain):
            info = infos[index]
            prior = held if info.fRequiredFrame >= 0 else -1
            # A frame with disposal "restore previous" is drawn on a copy: the next frame depends on the earlier canvas.
            passing = info.fDisposalMethod == skia.Codec.kRestorePrevious
            shown = canvas.copy() if passing else canvas
            if prior < 0:
                shown[...] = 0
            truncated = _decode(codec, shown, index, prior, True)
            if not passing:
                held = index
        yield Raster(target, straight(reduced(shown, smallest_side)), truncated)
    # Keeps `content` alive: the codec reads from it until here.
    del codec, content


def _open(content: bytes | memoryview) -> Any:
    skia = load_skia()

    try:
        return skia.Codec.MakeFromData(content)
    except (RuntimeError, ValueError) as error:
        raise SkiaRefusal("no picture found") from error


def _scaled(codec: Any, scale: int) -> tuple[int, int]:
    size = codec.getScaledDimensions(_SCALES[scale]) if scale in _SCALES else codec.dimensions()
    return size.width(), size.height()


def _decode(codec: Any, canvas: Pixels, index: int, prior: int, managed: bool) -> bool:
    """Draw one frame on premultiplied `canvas`. Return whether the content ends inside it. Raises SkiaRefusal."""
    skia = load_skia()

    height, width, _ = canvas.shape
    space = skia.ColorSpace.MakeSRGB() if managed else None
    info = skia.ImageInfo.Make(width, height, skia.kRGBA_8888_ColorType, skia.kPremul_AlphaType, space)
    options = skia.Codec.Options()
    options.fFrameIndex = index
    options.fPriorFrame = prior
    try:
        result = codec.getPixels(info, canvas, width * 4, options)
    except (RuntimeError, ValueError) as error:
        raise SkiaRefusal(str(error)) from error
    if result not in (skia.Codec.kSuccess, skia.Codec.kIncompleteInput, skia.Codec.kErrorInInput):
        raise SkiaRefusal(str(skia.Codec.ResultToString(result)))
    return bool(result == skia.Codec.kIncompleteInput)
