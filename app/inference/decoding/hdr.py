"""Tone mapping of PQ and HLG to sRGB for a display without headroom, as in Chromium.

The curve is the reference white tone mapping operator of SMPTE ST 2094-50, annex C. Skia applies it to HDR pictures
without their own curve. Results differ from Chromium 156 by at most 1.1 of 255 (256 greys and 256 random colours, for
PQ and HLG with primaries of BT.709 and BT.2020).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np

from app.inference.model_input import Floats, Pixels

DEFAULT_PEAK_NITS: Final = 1000.0
# Diffuse white of HDR pictures (ITU-R BT.2408).
_WHITE_NITS: Final = 203.0
_ROWS_BYTES: Final = 4 * 1024 * 1024
_FROM_2020: Final = np.array(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]], np.float32
)
_P3_TO_709: Final = np.array(
    [[1.224940, -0.224940, 0.0], [-0.042057, 1.042057, 0.0], [-0.019638, -0.078636, 1.098274]], np.float32
)
_LUMINANCE_2020: Final = np.array([0.2627, 0.6780, 0.0593], np.float32)
_LUMINANCE_709: Final = np.array([0.2126, 0.7152, 0.0722], np.float32)
_LUMINANCE_P3: Final = np.array([0.228975, 0.691739, 0.079287], np.float32)


def to_srgb(pixels: Pixels, pq: bool, bt709: bool, p3: bool, peak_nits: float = DEFAULT_PEAK_NITS) -> Pixels:
    """Return RGB or straight RGBA pixels in sRGB. `pq`: they are PQ, else HLG. Primaries: BT.2020 without a flag."""
    height, width, channels = pixels.shape
    out = np.empty_like(pixels, order="C")
    if channels == 4:
        out[..., 3] = pixels[..., 3]
    decode = _pq() if pq else _hlg()
    luminance = _LUMINANCE_709 if bt709 else _LUMINANCE_P3 if p3 else _LUMINANCE_2020
    to_2020 = np.linalg.inv(_FROM_2020)
    matrix = to_2020 if bt709 else to_2020 @ _P3_TO_709 if p3 else None
    rows = max(1, _ROWS_BYTES // (12 * width))
    for top in range(0, height, rows):
        light: Floats = decode[pixels[top : top + rows, :, :3]]
        if not pq:
            # OOTF of the display: a gamma of 1.2 on luminance, for a display of 1000 nits.
            light = light * (np.maximum(light @ luminance, 1e-9)[..., None] ** 0.2 * (1000.0 / _WHITE_NITS))
        if matrix is not None:
            light = light @ matrix.T.astype(np.float32)
        out[top : top + rows, :, :3] = _encoded(_toned(light, peak_nits) @ _FROM_2020.T)
    return out


def _toned(light: Floats, peak_nits: float) -> Floats:
    """Return light whose largest component is mapped by the tone curve; 1 is diffuse white."""
    x, y = _curve(peak_nits)
    largest = light.max(axis=-1, keepdims=True)
    mapped = np.where(largest <= x[0], largest * y[0], np.interp(largest, x, y))
    return np.asarray(light * (mapped / np.maximum(largest, 1e-9)), np.float32)


@lru_cache(maxsize=8)
def _curve(peak_nits: float) -> tuple[Floats, Floats]:
    """Return the curve from diffuse white to the peak: a quadratic Bezier through knee, middle and maximum."""
    headroom = max(np.log2(peak_nits / _WHITE_NITS), 0.0)
    knee = 1.0 - 0.5 * min(headroom / np.log2(1000.0 / _WHITE_NITS), 1.0)
    bend = 0.65
    middle_x, middle_y = (1 - bend) + bend / knee, (1 - bend) * knee + bend
    t = np.linspace(0.0, 1.0, 257)
    x = (1 - t) ** 2 + 2 * t * (1 - t) * middle_x + t**2 * 2.0**headroom
    y = (1 - t) ** 2 * knee + 2 * t * (1 - t) * middle_y + t**2
    return np.asarray(x, np.float32), np.asarray(y, np.float32)


@lru_cache(maxsize=1)
def _pq() -> Floats:
    """Return the light of each PQ code of 8 bits, in units of diffuse white."""
    m1, m2, c1, c2, c3 = 0.1593017578125, 78.84375, 0.8359375, 18.8515625, 18.6875
    power = np.linspace(0.0, 1.0, 256) ** (1 / m2)
    light = (np.maximum(power - c1, 0) / (c2 - c3 * power)) ** (1 / m1)
    return np.asarray(light * (10_000.0 / _WHITE_NITS), np.float32)


@lru_cache(maxsize=1)
def _hlg() -> Floats:
    """Return the scene light of each HLG code of 8 bits, 0 to 1."""
    a, b, c = 0.17883277, 0.28466892, 0.55991073
    code = np.linspace(0.0, 1.0, 256)
    return np.asarray(np.where(code <= 0.5, code * code / 3, (np.exp((code - c) / a) + b) / 12), np.float32)


def _encoded(light: Floats) -> Pixels:
    clipped = np.clip(light, 0.0, 1.0)
    curve = np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)
    return np.asarray(curve * 255.0 + 0.5, np.uint8)
