"""Renditions: the pictures that the models score. Strips are cut into squares, transparency is laid on grounds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from app.domain.images import Rejection, RejectReason
from app.domain.renditions import DARK, WHITE, Box, quadrants, square_count, strip_squares
from app.inference.decoding.pictures import DecodedImage
from app.inference.model_input import Picture, Pixels
from schemas.records import Rendition

# Background of a page in dark mode. Few pages are black, and dark grey hides and shows the same pictures.
_DARK_LEVEL = 18
# A second ground is scored only if the picture differs visibly on it: by a mean of 8 of 255 levels in at least one of
# 16 x 16 parts.
_GRID = 16
_SEEN_LEVELS = 8.0


@dataclass(frozen=True, slots=True, eq=False)
class Shown:
    """One rendition and its pixels."""

    rendition: Rendition
    picture: Picture


def renditions_of(image: DecodedImage, quadrants_from_pixels: int, most: int) -> tuple[Shown, ...] | Rejection:
    """Return the renditions, the whole first frame first, or the rejection of a picture with more than `most`.

    A strip gives the whole picture and its squares, a picture of at least `quadrants_from_pixels` the whole picture and
    its quadrants; each for every frame and for every ground on which it looks different.
    """
    header = image.header
    due = 1 + square_count(header.width, header.height)
    if due * len(image.frames) > most:
        # Counted before any square is cut: a line of 1 x 65,500 pixels would give 87,000 squares.
        return _too_many(image, due * len(image.frames), most)
    shown = tuple(_shown(image, quadrants_from_pixels))
    return shown if len(shown) <= most else _too_many(image, len(shown), most)


def on_white(pixels: Pixels) -> Pixels:
    """Return RGB pixels; transparency is laid on white."""
    return _laid_on(pixels, 255) if pixels.shape[2] == 4 else pixels


def _shown(image: DecodedImage, quadrants_from_pixels: int) -> Iterator[Shown]:
    width, height = image.header.width, image.header.height
    for frame in image.frames:
        for ground, pixels in _grounds(frame.pixels):
            yield _part(frame.index, ground, pixels, Box(0, 0, pixels.shape[1], pixels.shape[0]), width, height)
            rows, columns = pixels.shape[:2]
            for box in strip_squares(columns, rows):
                yield _part(frame.index, ground, pixels, box, width, height)
            if width * height >= quadrants_from_pixels > 0:
                for box in quadrants(columns, rows, 1):
                    yield _part(frame.index, ground, pixels, box, width, height)


def _part(index: int, ground: str, pixels: Pixels, box: Box, width: int, height: int) -> Shown:
    rows, columns = pixels.shape[:2]
    # Six digits resolve a pixel of the largest side; sixteen digits would only enlarge the records.
    left, right = round(box.left / columns, 6), round(box.right / columns, 6)
    top, bottom = round(box.top / rows, 6), round(box.bottom / rows, 6)
    part = pixels[box.top : box.bottom, box.left : box.right]
    picture = Picture(
        rgb=np.ascontiguousarray(part),
        source_width=max(1, round(width * (right - left))),
        source_height=max(1, round(height * (bottom - top))),
    )
    return Shown(Rendition(index, left, top, right, bottom, ground), picture)


def _grounds(pixels: Pixels) -> Iterator[tuple[str, Pixels]]:
    if pixels.shape[2] == 3:
        yield "", pixels
        return
    white = _laid_on(pixels, 255)
    yield WHITE, white
    dark = _laid_on(pixels, _DARK_LEVEL)
    if _look_different(white, dark):
        yield DARK, dark


def _laid_on(pixels: Pixels, level: int) -> Pixels:
    alpha = pixels[..., 3:].astype(np.uint16)
    colours = pixels[..., :3] * alpha
    colours += (255 - alpha) * np.uint16(level) + np.uint16(127)
    return (colours // 255).astype(np.uint8)


def _look_different(first: Pixels, second: Pixels) -> bool:
    difference = np.abs(_means(first) - _means(second))
    return bool(difference.max(initial=0.0) > _SEEN_LEVELS)


def _means(pixels: Pixels) -> np.ndarray:
    rows, columns = pixels.shape[:2]
    at_rows = np.unique(np.linspace(0, rows, _GRID, endpoint=False).astype(int))
    at_columns = np.unique(np.linspace(0, columns, _GRID, endpoint=False).astype(int))
    sums = np.add.reduceat(np.add.reduceat(pixels, at_rows, axis=0, dtype=np.float64), at_columns, axis=1)
    heights = np.diff([*at_rows, rows])[:, None, None]
    widths = np.diff([*at_columns, columns])[None, :, None]
    return np.asarray(sums / heights / widths)


def _too_many(image: DecodedImage, count: int, most: int) -> Rejection:
    header = image.header
    detail = f"{count} parts would have to be looked at, at most {most}"
    return Rejection(RejectReason.TOO_MANY_RENDITIONS, detail, header.format.value, header.width, header.height)
