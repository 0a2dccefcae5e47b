"""JPEG XL: decoded by libjxl through imagecodecs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.domain.headers.jxl import read_header
from app.inference.decoding.by_skia import Raster
from app.inference.decoding.colour import CodePoints, from_code_points
from app.inference.decoding.pixels import picture, reduced, straight, without_empty_alpha
from app.inference.decoding.selection import choose_frames
from app.inference.model_input import Pixels


class JxlRefusal(Exception):
    """Error: libjxl finds no picture in a content.

    Operator: nothing: the image is rejected as `undecodable`.
    """


def decode_jxl(content: bytes, smallest_side: int, most: int) -> tuple[int, Iterator[Raster]]:
    """Return the number of frames and an iterator over the chosen ones, upright, in sRGB. Raises JxlRefusal.

    libjxl decodes all frames of an animation together, because it does not report their number.
    """
    import imagecodecs

    header = read_header(content)
    try:
        values = imagecodecs.jpegxl_decode(content, index=None if header.animated else 0, numthreads=1)
    except (RuntimeError, ValueError) as error:
        raise JxlRefusal(str(error)) from error
    # The first axis of an animation is its frames. Grey pictures have no axis for channels.
    several = header.animated and (values.ndim == 4 or (values.ndim == 3 and values.shape[2] > 4))
    frames = values if several else values[None]
    chosen = choose_frames([0] * len(frames), most)
    points = CodePoints(header.primaries, header.transfer) if header.primaries else None
    return len(frames), (_raster(frames[index], index, smallest_side, points) for index in chosen)


def _raster(values: NDArray[Any], index: int, smallest_side: int, points: CodePoints | None) -> Raster:
    pixels = without_empty_alpha(_to_rgb(values))
    source = (pixels.shape[1], pixels.shape[0])
    if pixels.shape[2] == 4:
        premultiplied = np.asarray(picture(pixels, "RGBA").convert("RGBa"), dtype=np.uint8)
        pixels = straight(reduced(premultiplied, smallest_side))
    else:
        pixels = reduced(pixels, smallest_side)
    if points is not None:
        pixels = from_code_points(pixels, points)
    return Raster(index, pixels, False, source)


def _to_rgb(values: NDArray[Any]) -> Pixels:
    if values.dtype.kind == "f":
        values = np.clip(np.nan_to_num(values), 0, 1) * 255
    elif values.dtype.itemsize == 2:
        values = values >> 8
    pixels = values.astype(np.uint8)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.shape[2] in (1, 2):
        pixels = np.concatenate([np.repeat(pixels[..., :1], 3, axis=2), pixels[..., 1:]], axis=2)
    return np.ascontiguousarray(pixels[..., :4])
