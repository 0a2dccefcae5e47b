"""Where text lies: PP-OCR's probability map to thin regions and one score. The only file that names cv2.

The detector marks a whole object where a picture holds no text; laid-over text is thin. So only components whose short
side is under a share of the picture's side count; each weighs by its confidence and its size, and any one suffices.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from app.inference.manifest import ModelManifest
from app.inference.runtime import Floats
from schemas.records import Region

_MAX_REGIONS = 32


def text_regions(output: Floats, manifest: ModelManifest) -> tuple[float, tuple[Region, ...]]:
    """Score and regions of one probability map [1, h, w]; regions are fractions of the picture, best first. Pure."""
    probabilities = output.reshape(output.shape[-2:])
    options = manifest.options
    height, width = probabilities.shape
    mask = (probabilities > options["pixel_threshold"]).astype(np.uint8)
    components: Any = cv2.connectedComponentsWithStats(mask, connectivity=8)
    count, marks, stats = components[0], components[1], components[2]
    thin_limit = options["thin_share"] * min(height, width)
    found: list[tuple[float, Region]] = []
    for index in range(1, count):
        left, top, box_width, box_height, area = (int(value) for value in stats[index])
        if area < options["smallest_pixels"]:
            continue
        window = (slice(top, top + box_height), slice(left, left + box_width))
        inside = marks[window] == index
        confidence = float(probabilities[window][inside].mean())
        if short_side(inside) > thin_limit:
            continue
        # The map shrinks text by design (DB kernels), so the box is widened by what the detector's authors unclip.
        grow = options["unclip"] * area / max(1, box_width + box_height)
        region = Region(
            left=max(0.0, (left - grow) / width),
            top=max(0.0, (top - grow) / height),
            right=min(1.0, (left + box_width + grow) / width),
            bottom=min(1.0, (top + box_height + grow) / height),
            value=confidence,
        )
        size = area / (height * width)
        found.append((confidence * size / (size + options["half_size"]), region))
    found.sort(key=lambda pair: -pair[0])
    score = 1.0 - float(np.prod([1.0 - weight for weight, _ in found])) if found else 0.0
    return score, tuple(region for _, region in found[:_MAX_REGIONS])


def short_side(inside: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float:
    """The short side in pixels of the smallest rectangle, however turned, around a component."""
    points = cv2.findNonZero(inside.astype(np.uint8))
    rectangle: Any = cv2.minAreaRect(points)
    return float(min(rectangle[1])) + 1.0
