"""Small pictures in memory, encoded in every format."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture of one colour."""
    return Image.new("RGB", size, colour)


def corners(size: tuple[int, int] = (64, 48)) -> Image.Image:
    """White, with the upper left quarter red: shows how it is turned."""
    pixels = np.full((size[1], size[0], 3), 255, dtype=np.uint8)
    pixels[: size[1] // 2, : size[0] // 2] = (255, 0, 0)
    return Image.fromarray(pixels)


def noise(seed: int, size: tuple[int, int] = (64, 48)) -> Image.Image:
    """A picture that no other seed makes."""
    generator = np.random.default_rng(seed)
    return Image.fromarray(generator.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """Return the file; `kind` is Pillow's name of a format."""
    if kind == "HEIF":
        import pillow_heif

        pillow_heif.register_heif_opener()
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def jpeg(colour: tuple[int, int, int], size: tuple[int, int] = (64, 48)) -> bytes:
    """A small JPEG of one colour."""
    return encoded(plain(colour, size), "JPEG", quality=90)
