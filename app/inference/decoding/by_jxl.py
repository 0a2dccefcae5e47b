"""JPEG XL by libjxl, through imagecodecs."""

from __future__ import annotations

import numpy as np

from app.inference.decoding.by_skia import Raster
from app.inference.decoding.pixels import picture, reduced, straight, without_empty_alpha
from app.inference.runtime import Pixels


class JxlRefusal(Exception):
    """libjxl finds no picture in a content.

    Operator: nothing: the image is rejected as `undecodable`.
    """


def decode_jxl(content: bytes, smallest_side: int) -> Raster:
    """Return the first frame, upright. Raises JxlRefusal."""
    import imagecodecs

    try:
        values = imagecodecs.jpegxl_decode(content, index=0, numthreads=1)
    except (RuntimeError, ValueError) as error:
        raise JxlRefusal(str(error)) from error
    pixels = without_empty_alpha(_to_rgb(values))
    source = (pixels.shape[1], pixels.shape[0])
    if pixels.shape[2] == 4:
        premultiplied = np.asarray(picture(pixels, "RGBA").convert("RGBa"), dtype=np.uint8)
        return Raster(0, straight(reduced(premultiplied, smallest_side)), False, source)
    return Raster(0, reduced(pixels, smallest_side), False, source)


def _to_rgb(values: np.ndarray) -> Pixels:
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
