"""The picture that the corpus carries: structure everywhere, so that no shift, turn or missing part goes unseen."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw

from app.settings import ROOT

WIDTH, HEIGHT = 160, 128
# Files of this picture that no library of the project writes; the README there says how they were made.
SAMPLES: Final = ROOT / "tests" / "samples" / "oracle"


@functools.cache
def _drawn(second: bool) -> Image.Image:
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    red = 40 + 190 * x / WIDTH
    green = 60 + 150 * y / HEIGHT
    blue = 200 - 150 * (x + y) / (WIDTH + HEIGHT)
    channels = (blue, red, 255 - green) if second else (red, green, blue)
    image = Image.fromarray(np.stack(channels, axis=2).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    # Each corner has its own colour: a picture that is mirrored or turned differs by more than any tolerance.
    corners = ((0, 0, "red"), (WIDTH - 32, 0, "lime"), (0, HEIGHT - 32, "blue"), (WIDTH - 32, HEIGHT - 32, "yellow"))
    for left, top, colour in corners:
        draw.rectangle((left, top, left + 31, top + 31), fill=colour)
    draw.text((44, 52), "SECOND" if second else "SIGHTLINE", fill="white" if second else "black", font_size=16)
    return image


def base() -> Image.Image:
    """Return the picture, RGB."""
    return _drawn(False).copy()


def second() -> Image.Image:
    """Return another picture of the same size, for animations."""
    return _drawn(True).copy()


def alpha() -> Image.Image:
    """Return the picture with transparency: a transparent band, a half transparent one, and a gradient."""
    image = _drawn(False).convert("RGBA")
    mask = np.full((HEIGHT, WIDTH), 255, dtype=np.uint8)
    mask[40:56] = 0
    mask[64:80] = 128
    mask[88:96] = np.linspace(0, 255, WIDTH).astype(np.uint8)
    image.putalpha(Image.fromarray(mask))
    return image


def array(image: Image.Image) -> Any:
    """Return the pixels as uint8 [height, width, channels], or [height, width]."""
    return np.asarray(image, dtype=np.uint8)


def cut_at(share: float, build: Callable[[], bytes]) -> Callable[[], bytes]:
    """Return a builder of the first `share` of the file that `build` makes."""

    def cut() -> bytes:
        whole = build()
        return whole[: int(len(whole) * share)]

    return cut


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return the file that Pillow writes; `kind` is Pillow's name of a format."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
