"""Text regions: converts PP-OCR's probability map into thin regions and one score. The only module that imports cv2.

In a picture without text the detector marks whole objects, while overlaid text is thin. So only components whose short
side is below a fraction of the picture's side count. The score is that of the best one by confidence, length and size.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from app.inference.manifest import ModelManifest
from app.inference.model_input import Floats
from schemas.records import Region

_MAX_REGIONS = 32


def text_regions(output: Floats, manifest: ModelManifest) -> tuple[float, tuple[Region, ...]]:
    """Return score and regions of one probability map [1, h, w]. Regions: fractions of the picture, best first."""
    height, width = int(output.shape[-2]), int(output.shape[-1])
    probabilities = output.reshape(height, width)
    options = manifest.options
    mask = (probabilities > options["pixel_threshold"]).astype(np.uint8)
    components: Any = cv2.connectedComponentsWithStats(mask, connectivity=8)
    count, marks, stats = components[0], components[1], components[2]
    thin_limit = options["thin_share"] * min(height, width)
    candidates: list[tuple[float, Region]] = []
    for index in range(1, count):
        left, top, box_width, box_height, area = (int(value) for value in list(stats[index]))
        if area < options["smallest_pixels"]:
            continue
        window = (slice(top, top + box_height), slice(left, left + box_width))
        inside = marks[window] == index
        confidence = float(probabilities[window][inside].mean())
        short, long = sides(inside)
        if short > thin_limit:
            continue
        # The map shrinks text by design (DB kernels), so the box is widened by the factor of the detector's authors.
        grow = options["unclip"] * area / (2 * (box_width + box_height))
        region = Region(
            left=max(0.0, (left - grow) / width),
            top=max(0.0, (top - grow) / height),
            right=min(1.0, (left + box_width + grow) / width),
            bottom=min(1.0, (top + box_height + grow) / height),
            value=confidence,
        )
        size = area / (height * width)
        length = min(1.0, long / short / options["full_aspect"])
        candidates.append((confidence * length * size / (size + options["half_size"]), region))
    candidates.sort(key=lambda pair: -pair[0])
    score = candidates[0][0] if candidates else 0.0
    return score, tuple(region for _, region in candidates[:_MAX_REGIONS])


def sides(inside: NDArray[np.bool_]) -> tuple[float, float]:
    """Return short and long side in pixels of the smallest rectangle, at any rotation, around a component."""
    points = cv2.findNonZero(inside.astype(np.uint8))
    rectangle: Any = cv2.minAreaRect(points)
    return float(min(rectangle[1])) + 1.0, float(max(rectangle[1])) + 1.0
