"""Input of models: the picture, its resized form, and the description of a network's input."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Fit(StrEnum):
    """Rule to resize a picture of any shape to the input of a network."""

    STRETCH = "stretch"
    """Resize to `resize_height` × `resize_width`, ignoring the aspect ratio; crop the centre `height` × `width`."""
    ASPECT = "aspect"
    """Resize the long side to `width` (= `height`); round both sides to multiples of `multiple`. Shapes differ."""


@dataclass(frozen=True, slots=True)
class ImageInput:
    """Preprocessing of a network. `version` identifies it and is part of every score's cache key.

    `mean` and `scale` are in the order of the network's channels: value = (pixel - mean) * scale. They are applied
    inside `infer`, so that networks that differ only in normalisation share one resized picture.
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
        """Fields that determine the resized picture. Specs of equal geometry share one prepared picture."""
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
        """Lower bound of the short side for reduction while decoding. A decoder never enlarges."""
        wanted = max(self.height, self.width, self.resize_height, self.resize_width)
        # Statistics are measured at viewing scale (statistics.VIEW_SIDE_PIXELS).
        return max(wanted, 512) if self.statistics else wanted


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One decoded picture: upright (EXIF applied), RGB, alpha flattened. `source_*`: its size before reduction."""

    rgb: Pixels
    source_width: int
    source_height: int


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """Prepared input for the networks of one geometry: resized RGB pixels and, if required, statistics."""

    pixels: Pixels
    statistics: Floats | None
