"""16 x 16 means of a picture, laid on a ground: small enough to compare, fine enough to see a wrong corner."""

from __future__ import annotations

import itertools
from typing import Any, Final

import numpy as np

SQUARES: Final = 16
GROUNDS: Final = {"white": 255, "dark": 0}


def on_ground(pixels: Any, ground: str) -> Any:
    """Return float RGB [height, width, 3] of uint8 pixels with 3 channels, or 4 with straight alpha."""
    colours = pixels[..., :3].astype(np.float64)
    if pixels.shape[2] == 3:
        return colours
    alpha = pixels[..., 3:].astype(np.float64) / 255
    return colours * alpha + GROUNDS[ground] * (1 - alpha)


def means(picture: Any) -> Any:
    """Return float [16, 16, 3]. Borders are rounded down, as in shown.js; a square has at least one pixel."""
    height, width = picture.shape[:2]
    rows = _borders(height)
    columns = _borders(width)
    return np.array(
        [[picture[top:bottom, left:right].mean(axis=(0, 1)) for left, right in columns] for top, bottom in rows]
    )


def _borders(length: int) -> list[tuple[int, int]]:
    starts = [at * length // SQUARES for at in range(SQUARES + 1)]
    return [(start, max(start + 1, end)) for start, end in itertools.pairwise(starts)]


def worst(one: Any, other: Any) -> float:
    """Return the largest difference of two sets of means, in levels of 255."""
    return float(np.abs(one - other).max())
