"""Pictures that Pillow and its plugins decode: AVIF, HEIC, TIFF, JPEG 2000, and files that Skia refuses."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from typing import Any, Final

import numpy as np
from PIL import Image

from app.domain.headers import boxes
from app.domain.headers.layout import MALFORMED
from app.domain.images import ImageFormat
from app.inference.decoding.by_skia import Raster
from app.inference.decoding.colour import CodePoints, from_code_points, from_profile
from app.inference.decoding.hdr import DEFAULT_PEAK_NITS
from app.inference.decoding.pictures import OverBudget
from app.inference.decoding.pixels import reduced, straight
from app.inference.decoding.selection import choose_frames
from app.inference.model_input import Pixels

_NAMES: Final = {
    ImageFormat.JPEG: "JPEG",
    ImageFormat.PNG: "PNG",
    ImageFormat.WEBP: "WEBP",
    ImageFormat.GIF: "GIF",
    ImageFormat.BMP: "BMP",
    ImageFormat.TIFF: "TIFF",
    ImageFormat.AVIF: "AVIF",
    ImageFormat.HEIC: "HEIF",
    ImageFormat.ICO: "ICO",
    ImageFormat.CUR: "CUR",
    ImageFormat.JP2: "JPEG2000",
}
_ORIENTATION_TAG: Final = 0x0112
_ALPHA_MODES: Final = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})


def prepare_pillow() -> None:
    """Configure Pillow: HEIC support, decoding on the calling thread, no limits of its own. Idempotent."""
    import pillow_heif
    from PIL import AvifImagePlugin

    pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    # The project's limits are checked before Pillow opens the file. Pillow's own limit would warn through a global
    # filter, which is not thread-safe.
    Image.MAX_IMAGE_PIXELS = None
    # Pillow's warnings quote hostile files, and Python's registry of warnings would keep each new text for ever.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def decode_pillow(
    content: bytes, kind: ImageFormat, smallest_side: int, most: int, frames: int, most_pixels: int
) -> tuple[int, Iterator[Raster]]:
    """Return the number of frames and an iterator over the chosen ones, in sRGB. Raises Pillow's exceptions.

    `frames` is the number in the header. The iterator raises OverBudget for a picture of more than `most_pixels`:
    Pillow then reads a larger size in the file than the one for which memory was granted. TIFF pages are upright; for
    other formats see `orientation`.
    """
    image = Image.open(io.BytesIO(content), formats=(_NAMES[kind],))
    delays, points = [0] * frames, None
    if kind in (ImageFormat.AVIF, ImageFormat.HEIC):
        points, delays = _boxes(content)
        # A HEIC shows its primary picture; only AVIF has sequences.
        count = int(getattr(image, "n_frames", 1)) if kind is ImageFormat.AVIF else 1
        delays = (delays + [0] * count)[:count]
    elif kind is not ImageFormat.TIFF:
        delays = [0]
    chosen = choose_frames(delays, most)
    return len(delays), _rasters(image, kind, chosen, smallest_side, points, most_pixels)


def orientation(content: bytes, kind: ImageFormat) -> int:
    """Return the orientation of an AVIF according to Pillow: that of its boxes, never that of EXIF alone."""
    if kind is not ImageFormat.AVIF:
        return 1
    with Image.open(io.BytesIO(content), formats=("AVIF",)) as image:
        # The plugin replaces the EXIF orientation by that of the boxes. Browsers ignore EXIF here.
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _boxes(content: bytes) -> tuple[CodePoints | None, list[int]]:
    try:
        facts = boxes.read_picture(content)
    except MALFORMED:
        return None, []
    points = CodePoints(*facts.colours, facts.peak_nits or DEFAULT_PEAK_NITS) if facts.colours else None
    return points, facts.delays_ms


def _rasters(
    image: Image.Image,
    kind: ImageFormat,
    chosen: tuple[int, ...],
    smallest_side: int,
    points: CodePoints | None,
    most_pixels: int,
) -> Iterator[Raster]:
    size: tuple[int, int] | None = None
    source: tuple[int, int] | None = None
    with image:
        for index in chosen:
            if index:
                image.seek(index)
            if image.width * image.height > most_pixels:
                raise OverBudget(f"{image.width} x {image.height} pixels, the header says fewer")
            image.load()
            profile = image.info.get("icc_profile")
            source = source or image.size
            pixels = _pixels(image, smallest_side)
            if isinstance(profile, bytes) and profile:
                # Pillow returns three equal channels for a grey AVIF.
                grey = all((row[:, :1] == row[:, 1:3]).all() for row in pixels)
                pixels = from_profile(pixels, profile, grey=grey)
            elif points is not None:
                pixels = from_code_points(pixels, points)
            # Pages of one file may differ in size; frames may not.
            if size is not None and pixels.shape[1::-1] != size:
                pixels = _fitted(pixels, size)
            size = size or (pixels.shape[1], pixels.shape[0])
            yield Raster(index, pixels, False, source)


def _pixels(image: Image.Image, smallest_side: int) -> Pixels:
    """Return RGB or straight RGBA: 16 bits scaled to 8, palettes resolved, large pictures reduced."""
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_to_8_bits(np.asarray(image)))
    if image.mode in _ALPHA_MODES or "transparency" in image.info:
        rgba = image if image.mode in ("RGBA", "RGBa") else image.convert("RGBA")
        premultiplied = rgba if rgba.mode == "RGBa" else rgba.convert("RGBa")
        return straight(reduced(np.asarray(premultiplied, dtype=np.uint8), smallest_side))
    # Pillow's convert copies even a picture that has the mode already, which would double the memory.
    rgb = image if image.mode == "RGB" else image.convert("RGB")
    return reduced(np.asarray(rgb, dtype=np.uint8), smallest_side)


def _fitted(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Return the pixels scaled to fit into `size` without distortion, on white."""
    ground = Image.new("RGB", size, (255, 255, 255))
    page = Image.fromarray(pixels)
    scale = min(size[0] / page.width, size[1] / page.height)
    page = page.resize((max(1, round(page.width * scale)), max(1, round(page.height * scale))))
    ground.paste(page, mask=page.getchannel("A") if page.mode == "RGBA" else None)
    return np.asarray(ground, dtype=np.uint8)


def _to_8_bits(values: Any) -> Pixels:
    """Scale grey values of 16 or 32 bits, or floats, to 8 bits: integers by their width, floats from 0 … 1."""
    if values.dtype.kind == "f":
        finite = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
        if finite.size and finite.max() <= 1.0:
            finite = finite * 255.0
        return np.asarray(np.clip(finite, 0, 255), dtype=np.uint8)
    if values.dtype.itemsize == 2:
        return np.asarray(values >> 8, dtype=np.uint8)
    # 32-bit integers whose maximum fits 8 or 16 bits are taken as such values; others are scaled from 32 bits.
    largest = int(values.max(initial=0))
    shift = 0 if largest <= 0xFF else 8 if largest <= 0xFFFF else 24
    return np.asarray(np.clip(values, 0, None) >> shift, dtype=np.uint8)
