"""Damage that we make on real photographs, at strengths at which people complain, and near misses at which they do not.

Everything is done to the picture as it was uploaded, before any resizing. Between "mild" and "damaged" lies a band that
is neither trained nor measured: there people disagree.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

DEFECTS: tuple[str, ...] = (
    "blurry",
    "dark",
    "overexposed",
    "noisy",
    "overcompressed",
    "low_contrast",
    "low_resolution",
)


VERSION = 2
"""Part of the key of cached features: a change of any damage is a new version."""


@dataclass(frozen=True, slots=True)
class Strength:
    """Ranges of a damage's parameter: where it counts as damage, and where it is mild enough to be none."""

    damaged: tuple[float, float]
    mild: tuple[float, float]


STRENGTHS: Mapping[str, Strength] = {
    # Gaussian radius in thousandths of the short side
    "blurry": Strength(damaged=(5.5, 18.0), mild=(0.0, 1.4)),
    # factor on linear light
    "dark": Strength(damaged=(0.04, 0.16), mild=(0.55, 0.9)),
    "overexposed": Strength(damaged=(3.2, 8.0), mild=(1.1, 1.4)),
    # standard deviation of grey values
    "noisy": Strength(damaged=(18.0, 50.0), mild=(0.0, 4.0)),
    # JPEG quality
    "overcompressed": Strength(damaged=(3.0, 12.0), mild=(50.0, 92.0)),
    # factor on the distance from the mean
    "low_contrast": Strength(damaged=(0.12, 0.32), mild=(0.75, 1.1)),
    # short side in pixels
    "low_resolution": Strength(damaged=(48.0, 160.0), mild=(256.0, 400.0)),
}


def damage(image: Image.Image, defect: str, strength: float, rng: random.Random) -> Image.Image:
    """The picture with one defect of a given strength; RGB in, RGB out."""
    return _DAMAGES[defect](image, strength, rng)


def damaged(image: Image.Image, defect: str, rng: random.Random) -> Image.Image:
    """The picture with a defect that people would complain of."""
    low, high = STRENGTHS[defect].damaged
    return damage(image, defect, _log_uniform(rng, low, high), rng)


def mild(image: Image.Image, rng: random.Random) -> Image.Image:
    """A picture that went through what pictures go through: one or two changes too small to complain of."""
    for defect in rng.sample(DEFECTS, rng.choice((0, 1, 1, 2))):
        low, high = STRENGTHS[defect].mild
        image = damage(image, defect, rng.uniform(low, high), rng)
    return image


def reencoded(image: Image.Image, rng: random.Random) -> Image.Image:
    """Some pictures are saved once more on their way, at ordinary quality."""
    return _jpeg(image, rng.uniform(70, 95)) if rng.random() < 0.5 else image


def _log_uniform(rng: random.Random, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _blur(image: Image.Image, strength: float, rng: random.Random) -> Image.Image:
    radius = strength / 1000 * min(image.size)
    if radius < 0.3:
        return image
    kind = rng.random()
    if kind < 0.6:
        return image.filter(ImageFilter.GaussianBlur(radius))
    if kind < 0.75:
        return image.filter(ImageFilter.BoxBlur(radius * 1.4))
    if kind < 0.85:
        # A small picture shown large.
        factor = max(1.0, radius * 1.5)
        small = image.resize((max(8, round(image.width / factor)), max(8, round(image.height / factor))))
        return small.resize(image.size, Image.Resampling.BICUBIC)
    return _motion(image, radius * 3.5, rng)


def _motion(image: Image.Image, length: float, rng: random.Random) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    angle = rng.uniform(0, np.pi)
    steps = max(3, round(length))
    total = np.zeros_like(pixels)
    for position in np.linspace(-length / 2, length / 2, steps):
        shift = (round(position * np.sin(angle)), round(position * np.cos(angle)))
        total += np.roll(pixels, shift, axis=(0, 1))
    return Image.fromarray(np.clip(total / steps, 0, 255).astype(np.uint8))


def _light(image: Image.Image, strength: float, rng: random.Random) -> Image.Image:
    linear = ((np.asarray(image, dtype=np.float32) / 255) ** 2.2).astype(np.float32)
    result = _exposed(linear, strength)
    # More light makes a dark picture better, and less a bright one: damage goes on until it is some.
    for _ in range(6):
        spared_by_darkness = strength >= STRENGTHS["overexposed"].damaged[0] and (result >= 250).mean() < 0.3
        spared_by_light = strength <= STRENGTHS["dark"].damaged[1] and np.median(result) > 70
        if not spared_by_darkness and not spared_by_light:
            break
        strength *= 1.6 if spared_by_darkness else 0.6
        result = _exposed(linear, strength)
    return Image.fromarray(result)


def _exposed(linear: NDArray[np.float32], factor: float) -> NDArray[np.uint8]:
    exposed: NDArray[np.uint8] = (np.clip(linear * factor, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8)
    return exposed


def _noise(image: Image.Image, strength: float, rng: random.Random) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    generator = np.random.default_rng(rng.getrandbits(32))
    kind = rng.random()
    if kind < 0.6:
        grain = generator.normal(0, strength, pixels.shape)
    elif kind < 0.85:
        grain = generator.normal(0, strength, (*pixels.shape[:2], 1))
    else:
        # Salt and pepper of about the same power.
        share = min(0.25, (strength / 128) ** 2 * 2)
        hit = generator.random((*pixels.shape[:2], 1)) < share
        grain = np.where(hit, generator.choice((-255.0, 255.0), (*pixels.shape[:2], 1)), 0.0)
    return Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8))


def _jpeg(image: Image.Image, strength: float, rng: random.Random | None = None) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, format="JPEG", quality=max(1, round(strength)))
    return Image.open(BytesIO(buffer.getvalue())).convert("RGB")


def _contrast(image: Image.Image, strength: float, rng: random.Random) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    middle = pixels.mean() if rng.random() < 0.7 else rng.uniform(90, 190)
    return Image.fromarray(np.clip(middle + (pixels - pixels.mean()) * strength, 0, 255).astype(np.uint8))


def _shrink(image: Image.Image, strength: float, rng: random.Random) -> Image.Image:
    factor = strength / min(image.size)
    if factor >= 1:
        return image
    return image.resize((max(1, round(image.width * factor)), max(1, round(image.height * factor))))


_DAMAGES: Mapping[str, Callable[[Image.Image, float, random.Random], Image.Image]] = {
    "blurry": _blur,
    "dark": _light,
    "overexposed": _light,
    "noisy": _noise,
    "overcompressed": _jpeg,
    "low_contrast": _contrast,
    "low_resolution": _shrink,
}
