"""Photographs for measurements: distinct contents of about 116 KB, made from packaged ones or taken from a folder."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

from app.demo.photographs import packaged_photographs
from app.errors import StartupRefused

# The size that the goals are stated for: what a phone picture weighs after a marketplace's app has shrunk it.
TARGET_BYTES: Final = 116 * 1024
_LONG_SIDE_PIXELS: Final = 960
_QUALITIES: Final = (50, 96)


def bench_photographs(count: int, folder: Path | None, seed: int = 1) -> Iterator[bytes]:
    """Yield `count` distinct JPEGs: cuts of the packaged photographs near 116 KB, or the files of `folder` as they are.

    Where the folder has fewer, its files are repeated with another comment inside: other bytes, the same picture.
    """
    generator = random.Random(seed)
    if folder is None:
        yield from _made(count, generator)
        return
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not files:
        raise StartupRefused(f"no JPEG files below {folder}")
    generator.shuffle(files)
    for number in range(count):
        body = files[number % len(files)].read_bytes()
        yield body if number < len(files) else commented(body, f"bench {number}")


def _made(count: int, generator: random.Random) -> Iterator[bytes]:
    wholes = []
    for photograph in packaged_photographs():
        with Image.open(photograph.path) as image:
            wholes.append(image.convert("RGB"))
    qualities = [_quality_for(_cut(whole, random.Random(0))) for whole in wholes]
    for number in range(count):
        place = number % len(wholes)
        yield _jpeg(_cut(wholes[place], generator), qualities[place])


def _cut(whole: Image.Image, generator: random.Random) -> Image.Image:
    share = generator.uniform(0.6, 0.98)
    width, height = int(whole.width * share), int(whole.height * share)
    left, top = generator.randint(0, whole.width - width), generator.randint(0, whole.height - height)
    part = whole.crop((left, top, left + width, top + height))
    if generator.random() < 0.5:
        part = ImageOps.mirror(part)
    return ImageOps.contain(part, (_LONG_SIDE_PIXELS, _LONG_SIDE_PIXELS))


def _quality_for(image: Image.Image) -> int:
    """Return the JPEG quality that comes nearest to the target; found once for each photograph."""
    low, high = _QUALITIES
    while low < high:
        middle = (low + high) // 2
        if len(_jpeg(image, middle)) < TARGET_BYTES:
            low = middle + 1
        else:
            high = middle
    return low


def _jpeg(image: Image.Image, quality: int) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def commented(body: bytes, text: str) -> bytes:
    """Return the same JPEG with a comment inside: other bytes, the same picture and the same work."""
    # A comment segment right after the start marker.
    comment = text.encode()
    return body[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + body[2:]
