"""Operations on arrays of pixels: reduce, orient, remove an opaque alpha channel."""

from __future__ import annotations

import numpy as np
from PIL import Image

from app.inference.model_input import Pixels


def reduced(pixels: Pixels, smallest_side: int) -> Pixels:
    """Return the pixels reduced by the largest integer factor that keeps the short side at least `smallest_side`.

    Averages blocks of pixels. 0 never reduces. Pixels with alpha must be premultiplied.
    """
    factor = min(pixels.shape[:2]) // smallest_side if smallest_side else 1
    if factor < 2:
        return pixels
    # RGBX averages four bands in the same way, and Pillow uses the memory in place; it would copy RGBa first.
    mode = "RGBX" if pixels.shape[2] == 4 else "RGB"
    return np.asarray(picture(pixels, mode).reduce(factor), dtype=np.uint8)


def straight(pixels: Pixels) -> Pixels:
    """Return premultiplied RGBA as straight RGBA, or as RGB if every pixel is opaque."""
    if pixels[..., 3].min() == 255:
        return opaque(pixels)
    return np.asarray(picture(pixels, "RGBa").convert("RGBA"), dtype=np.uint8)


def opaque(pixels: Pixels) -> Pixels:
    """Return the colours without their alpha channel."""
    return np.ascontiguousarray(pixels[..., :3])


def without_empty_alpha(pixels: Pixels) -> Pixels:
    """Return straight RGBA as RGB if every pixel is opaque; other pixels unchanged."""
    return opaque(pixels) if pixels.shape[2] == 4 and pixels[..., 3].min() == 255 else pixels


def picture(pixels: Pixels, mode: str) -> Image.Image:
    """Return a Pillow image that shares the memory of `pixels`."""
    height, width = pixels.shape[:2]
    return Image.frombuffer(mode, (width, height), np.ascontiguousarray(pixels).reshape(-1), "raw", mode, 0, 1)


def turned(pixels: Pixels, orientation: int) -> Pixels:
    """Return the pixels upright: undo an EXIF orientation."""
    upright: Pixels = pixels
    match orientation:
        case 2:
            upright = pixels[:, ::-1]
        case 3:
            upright = pixels[::-1, ::-1]
        case 4:
            upright = pixels[::-1]
        case 5:
            upright = pixels.transpose(1, 0, 2)
        case 6:
            upright = np.rot90(pixels, -1)
        case 7:
            upright = pixels.transpose(1, 0, 2)[::-1, ::-1]
        case 8:
            upright = np.rot90(pixels, 1)
        case _:
            upright = pixels
    return np.ascontiguousarray(upright)
