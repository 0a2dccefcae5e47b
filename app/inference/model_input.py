"""Input of models: the picture, its resized form, and the description of what a network takes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Fit(StrEnum):
    """How a picture of any shape becomes the shape that a network wants."""

    STRETCH = "stretch"
    """Both sides to `resize_height` × `resize_width`, shape ignored, then the centre `height` × `width`."""
    ASPECT = "aspect"
    """Long side to `width` (= `height`), both sides rounded to whole multiples of `multiple`. Shapes then differ."""


@dataclass(frozen=True, slots=True)
class ImageInput:
    """What preprocessing a network needs. `version` names it all: it is part of every score's cache key.

    `mean` and `scale` are in the order of the network's channels: value = (pixel - mean) * scale. They are applied
    inside `infer`, so that networks which differ in normalisation alone share one resized picture.
    """

    height: int
    width: int
    version: str
    fit: Fit = Fit.STRETCH
    resize_height: int = 0
    resize_width: int = 0
    multiple: int = 1
    colour_order: str = "rgb"
    layout: str = "nhwc"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    statistics: bool = False

    @property
    def geometry(self) -> tuple[str, int, int, int, int, int, bool]:
        """Two specs of equal geometry are served by one prepared picture."""
        return (
            self.fit.value,
            self.height,
            self.width,
            self.resize_height,
            self.resize_width,
            self.multiple,
            self.statistics,
        )

    def smallest_side_pixels(self) -> int:
        """A decoder may shrink a picture as long as its short side stays at least this (and never enlarges)."""
        wanted = max(self.height, self.width, self.resize_height, self.resize_width)
        # Statistics are measured at viewing scale (statistics.VIEW_SIDE_PIXELS).
        return max(wanted, 512) if self.statistics else wanted


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One decoded picture: upright (EXIF applied), RGB, alpha flattened; `source_*` is its size before reduction."""

    rgb: Pixels
    source_width: int
    source_height: int


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """What one picture gives to the networks of one geometry: resized RGB pixels and, where asked for, statistics."""

    pixels: Pixels
    statistics: Floats | None
