"""Quality statistics that downscaling to a network's input would remove: sharpness, noise, JPEG blocks, light, size.

They are appended to the backbone's embedding, so that a quality head works on stored embeddings too. Their names and
ranges are part of the preprocessing version: a change requires a new version of the backbone.

They are measured at viewing scale: a picture whose short side has at least twice `VIEW_SIDE_PIXELS` is first reduced by
an integer factor, because noise and blur that are invisible at the size of a shop page are not a fault.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from app.inference.model_input import Floats, Picture

VIEW_SIDE_PIXELS = 512
_WINDOW_PIXELS = 448
"""Largest measured part of each side at viewing scale, around the centre. Bounds the cost."""
_BLOCK = 16
_PEAK = 2.0
"""Range of the statistics, -2 … 2: close to the largest value of the backbone's part, so both fit one int8 scale."""

# Name, raw value that maps to -2, raw value that maps to +2. Values outside are clipped.
_RANGES: tuple[tuple[str, float, float], ...] = (
    ("source_side_log2", 5.0, 12.0),
    ("light_p01", 0.0, 255.0),
    ("light_p10", 0.0, 255.0),
    ("light_p50", 0.0, 255.0),
    ("light_p90", 0.0, 255.0),
    ("light_p99", 0.0, 255.0),
    ("light_deviation", 0.0, 128.0),
    ("black_share_log", -4.0, 0.0),
    ("white_share_log", -4.0, 0.0),
    ("edge_mean_log", -3.0, 5.0),
    ("edge_p10_log", -3.0, 5.0),
    ("edge_p50_log", -3.0, 5.0),
    ("edge_p90_log", -3.0, 7.0),
    ("edge_p99_log", -3.0, 7.0),
    ("noise_mean_log", -3.0, 5.0),
    ("noise_p10_log", -3.0, 5.0),
    ("noise_p50_log", -3.0, 5.0),
    ("noise_p90_log", -3.0, 7.0),
    ("chroma_noise_p10_log", -3.0, 5.0),
    ("chroma_noise_p50_log", -3.0, 5.0),
    ("step_1_across_log", -3.0, 5.0),
    ("step_1_down_log", -3.0, 5.0),
    ("step_2_across_log", -3.0, 5.0),
    ("step_2_down_log", -3.0, 5.0),
    ("step_4_across_log", -3.0, 5.0),
    ("step_4_down_log", -3.0, 5.0),
    ("block_edges_across", -0.5, 2.0),
    ("block_edges_down", -0.5, 2.0),
    ("flat_share", 0.0, 1.0),
    ("chroma_deviation", 0.0, 64.0),
)
STATISTICS: tuple[str, ...] = tuple(name for name, _, _ in _RANGES)
_LOW = np.array([low for _, low, _ in _RANGES], dtype=np.float32)
_HIGH = np.array([high for _, _, high in _RANGES], dtype=np.float32)

Plane = NDArray[np.int16]


def picture_statistics(picture: Picture) -> Floats:
    """Return the statistics of one picture in the order of STATISTICS. Pure. Takes 2 to 4 ms."""
    light, blue, red = _planes(picture)
    edges = _block_means(np.abs(_laplacian(light)))
    noise = _block_means(np.abs(_noise_mask(light)))
    chroma_noise = _block_means(np.abs(_noise_mask(blue))) + _block_means(np.abs(_noise_mask(red)))
    across, down = np.abs(light[:, 1:] - light[:, :-1]), np.abs(light[1:] - light[:-1])
    columns, rows = _sums(across, 0) / across.shape[0], _sums(down, 1) / down.shape[1]
    raw = np.array(
        [
            np.log2(max(1, min(picture.source_width, picture.source_height))),
            *_light(light),
            _log(edges.mean()),
            *(_log(part) for part in np.percentile(edges, (10, 50, 90, 99))),
            _log(noise.mean()),
            *(_log(part) for part in np.percentile(noise, (10, 50, 90))),
            *(_log(part) for part in np.percentile(chroma_noise, (10, 50))),
            _log(columns.mean()),
            _log(rows.mean()),
            *(_log(step) for step in _steps(light, 2)),
            *(_log(step) for step in _steps(light, 4)),
            _block_edges(columns),
            _block_edges(rows),
            np.count_nonzero(across == 0) / across.size,
            (_deviation(blue) + _deviation(red)) / 2.0,
        ],
        dtype=np.float32,
    )
    placed: Floats = np.clip((raw - _LOW) / (_HIGH - _LOW), 0.0, 1.0) * np.float32(2 * _PEAK) - np.float32(_PEAK)
    return placed


def _light(light: Plane) -> tuple[float, ...]:
    histogram = np.bincount(light.ravel(), minlength=256)
    shares = np.cumsum(histogram) / light.size
    parts = (float(np.searchsorted(shares, part)) for part in (0.01, 0.10, 0.50, 0.90, 0.99))
    black, white = float(np.log10(shares[8] + 1e-4)), float(np.log10(1.0 - shares[246] + 1e-4))
    return (*parts, _deviation(light), black, white)


def _deviation(plane: Plane) -> float:
    return float(plane.astype(np.float32).std())


def _sums(plane: Plane, axis: int) -> NDArray[np.int64]:
    total: NDArray[np.int64] = plane.sum(axis=axis, dtype=np.int32).astype(np.int64)
    return total


def _log(value: float | np.floating) -> float:
    return float(np.log2(float(value) + 0.125))


def _planes(picture: Picture) -> tuple[Plane, Plane, Plane]:
    height, width = picture.rgb.shape[:2]
    factor = max(1, min(width, height) // VIEW_SIDE_PIXELS)
    side = _WINDOW_PIXELS * factor
    top, left = max(0, (height - side) // 2), max(0, (width - side) // 2)
    image = Image.fromarray(picture.rgb[top : top + side, left : left + side])
    if factor > 1:
        image = image.reduce(factor)
    if min(image.size) < 4 * _BLOCK:
        scale = 4 * _BLOCK / min(image.size)
        image = image.resize((round(image.width * scale) + 1, round(image.height * scale) + 1))
    light, blue, red = image.convert("YCbCr").split()
    # Colour at every second pixel, which is the resolution that JPEG stores.
    return _plane(light), _plane(blue)[::2, ::2], _plane(red)[::2, ::2]


def _plane(band: Image.Image) -> Plane:
    return np.asarray(band).astype(np.int16)


def _laplacian(plane: Plane) -> Plane:
    centre = plane[1:-1, 1:-1]
    result: Plane = 4 * centre - plane[:-2, 1:-1] - plane[2:, 1:-1] - plane[1:-1, :-2] - plane[1:-1, 2:]
    return result


def _noise_mask(plane: Plane) -> Plane:
    # Immerkær's mask: it removes edges of constant slope, so the remainder in flat blocks is noise.
    rows = plane[:-2] - 2 * plane[1:-1] + plane[2:]
    result: Plane = rows[:, :-2] - 2 * rows[:, 1:-1] + rows[:, 2:]
    return result


def _block_means(plane: Plane) -> Floats:
    rows, columns = plane.shape[0] // _BLOCK, plane.shape[1] // _BLOCK
    whole = plane[: rows * _BLOCK, : columns * _BLOCK]
    lines = whole.reshape(rows, _BLOCK, columns * _BLOCK).sum(axis=1, dtype=np.int32)
    means: Floats = lines.reshape(rows, columns, _BLOCK).sum(axis=2).astype(np.float32) / np.float32(_BLOCK * _BLOCK)
    return means


def _steps(plane: Plane, distance: int) -> tuple[float, float]:
    # Every second line is sufficient for a mean.
    across = np.abs(plane[::2, distance:] - plane[::2, :-distance])
    down = np.abs(plane[distance:, ::2] - plane[:-distance, ::2])
    return float(across.sum(dtype=np.int64)) / across.size, float(down.sum(dtype=np.int64)) / down.size


def _block_edges(profile: NDArray[np.floating]) -> float:
    # The strongest of the eight phases compared with the others: JPEG's grid, at any offset after a crop or rotation.
    phases = np.array([profile[phase::8].mean() for phase in range(8)])
    strongest = int(phases.argmax())
    others = float(np.median(np.delete(phases, strongest)))
    return float(np.log2((float(phases[strongest]) + 0.25) / (others + 0.25)))
