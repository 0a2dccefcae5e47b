"""Preprocessing of a decoded picture for a network: pure functions that training and serving share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from app.inference.model_input import Fit, Floats, ImageInput, ModelInput, Picture, Pixels
from app.inference.statistics import picture_statistics


def prepare(picture: Picture, spec: ImageInput) -> ModelInput:
    """Resize and crop a picture by `spec.geometry`, and compute its statistics if the spec requires them.

    Pure. Takes a few milliseconds and releases the GIL in its expensive parts. Pixels stay RGB uint8: `normalise`
    applies colour order and normalisation when the batch is built.
    """
    image = Image.fromarray(picture.rgb)
    match spec.fit:
        case Fit.STRETCH:
            resized = image.resize((spec.resize_width, spec.resize_height), Image.Resampling.BILINEAR)
            left, top = (spec.resize_width - spec.width) // 2, (spec.resize_height - spec.height) // 2
            pixels = np.asarray(resized)[top : top + spec.height, left : left + spec.width]
        case Fit.ASPECT:
            pixels = np.asarray(image.resize(_aspect_size(image.size, spec), Image.Resampling.BILINEAR))
    statistics = picture_statistics(picture) if spec.statistics else None
    return ModelInput(pixels=np.ascontiguousarray(pixels), statistics=statistics)


def _aspect_size(size: tuple[int, int], spec: ImageInput) -> tuple[int, int]:
    longest = max(size)
    limit = max(spec.width, spec.height)

    def side(pixels: int) -> int:
        scaled = pixels * limit / longest
        return max(spec.multiple, round(scaled / spec.multiple) * spec.multiple)

    return side(size[0]), side(size[1])


def normalise(pixels: Sequence[Pixels], spec: ImageInput) -> Floats:
    """Stack pixels of equal shape into the float32 batch of a network. Applies colour order, mean, scale and layout."""
    batch = np.stack(pixels)
    if spec.colour_order == "bgr":
        batch = batch[..., ::-1]
    values = batch.astype(np.float32)
    values -= np.asarray(spec.mean, dtype=np.float32)
    if spec.scale != (1.0, 1.0, 1.0):
        values *= np.asarray(spec.scale, dtype=np.float32)
    if spec.layout == "nchw":
        values = values.transpose(0, 3, 1, 2)
    return np.ascontiguousarray(values)
