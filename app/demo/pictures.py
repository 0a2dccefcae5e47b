"""The demo's uploads: photographs cut, turned, damaged and written on; re-uploads; bad files.

Equal seeds give equal bytes.
"""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final

import numpy
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont, ImageOps

from app.demo.hostile import hostile_files
from app.demo.photographs import Photograph

# Of 100 uploads 30 repeat bytes that went up before, as on the marketplace of the design; 6 are bad files.
REUPLOADS_PERCENT: Final = 30
HOSTILE_PERCENT: Final = 6
# The longer side after cutting; phone pictures on a marketplace are stored at about this size.
_SIDE_PIXELS: Final = (480, 1000)
_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic"})
# Offers as sellers write them over their pictures.
_WORDS: Final = (
    "SALE -50%",
    "CALL 555-0148",
    "Free shipping!",
    "www.example.com",
    "NEW! Only today",
    "Best price",
    "WhatsApp 555 0199",
    "Ask for more photos",
    "#handmade @seller",
    "2 for 1",
)


@dataclass(frozen=True, slots=True)
class Picture:
    """One upload. `scored`: whether its outcome must be `scored` (None: either will do). `repeats`: an earlier key."""

    key: str
    body: bytes
    kind: str
    scored: bool | None
    repeats: str | None = None


@dataclass(frozen=True, slots=True)
class _Made:
    kind: str
    suffix: str
    body: bytes
    scored: bool | None


def made_pictures(count: int, *, seed: int, prefix: str, photographs: Sequence[Photograph]) -> Iterator[Picture]:
    """Yield `count` uploads below `prefix`, each made when it is asked for (some 20 ms of CPU)."""
    generator = random.Random(seed)
    plan = _plan(count, generator)
    bad: list[_Made] = []
    sent: list[Picture] = []
    for number, step in enumerate(plan, start=1):
        if step == "again" and sent:
            picture = _again(number, prefix, generator.choice(sent))
        elif step == "bad":
            if not bad:
                good = _jpeg(_cut(generator.choice(photographs), generator), 85)
                bad = [_Made(one.kind, one.suffix, one.body, one.scored) for one in hostile_files(good, generator)]
            made = bad.pop(0)
            picture = Picture(_key(prefix, number, made.kind, made.suffix), made.body, made.kind, made.scored)
        else:
            photograph = generator.choice(photographs)
            _, make = generator.choices(_CHANGES, weights=[weight for weight, _ in _CHANGES])[0]
            made = make(_cut(photograph, generator), generator)
            name = f"{photograph.name}-{made.kind}"
            if number % 25 == 0:
                # Keys that are read wrongly by whoever decodes them once too often or once too little.
                name = f"{name} größe+50% & 日本"
            picture = Picture(_key(prefix, number, name, made.suffix), made.body, made.kind, made.scored)
            sent.append(picture)
        yield picture


def folder_pictures(count: int, *, seed: int, prefix: str, folder: Path) -> Iterator[Picture]:
    """Yield the image files below `folder` as they are, then re-uploads of some: `count` at most, 30 % re-uploads."""
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES and path.is_file())
    generator = random.Random(seed)
    generator.shuffle(files)
    fresh = files[: max(1, count * (100 - REUPLOADS_PERCENT) // 100)]
    sent: list[Picture] = []
    for number, path in enumerate(fresh, start=1):
        name = path.relative_to(folder).with_suffix("").as_posix()
        picture = Picture(_key(prefix, number, name, path.suffix), path.read_bytes(), "yours", None)
        sent.append(picture)
        yield picture
    again = len(fresh) * REUPLOADS_PERCENT // (100 - REUPLOADS_PERCENT)
    for number in range(len(fresh) + 1, len(fresh) + again + 1):
        yield _again(number, prefix, generator.choice(sent))


def _plan(count: int, generator: random.Random) -> list[str]:
    again, bad = count * REUPLOADS_PERCENT // 100, count * HOSTILE_PERCENT // 100
    plan = ["again"] * again + ["bad"] * bad + ["new"] * (count - again - bad)
    generator.shuffle(plan)
    # The first upload repeats nothing: there is nothing before it.
    first = plan.index("new")
    plan[0], plan[first] = plan[first], plan[0]
    return plan


def _again(number: int, prefix: str, earlier: Picture) -> Picture:
    suffix = Path(earlier.key).suffix
    return Picture(_key(prefix, number, "again", suffix), earlier.body, earlier.kind, earlier.scored, earlier.key)


def _key(prefix: str, number: int, name: str, suffix: str) -> str:
    return f"{prefix}{number:05d}-{name}{suffix}"


@lru_cache(maxsize=16)
def _opened(path: Path) -> Image.Image:
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _cut(photograph: Photograph, generator: random.Random) -> Image.Image:
    """Return a random part of the photograph, sometimes mirrored, at a phone picture's size."""
    whole = _opened(photograph.path)
    share = generator.uniform(0.55, 1.0)
    width, height = int(whole.width * share), int(whole.height * share)
    left, top = generator.randint(0, whole.width - width), generator.randint(0, whole.height - height)
    part = whole.crop((left, top, left + width, top + height))
    if generator.random() < 0.5:
        part = ImageOps.mirror(part)
    scale = generator.randint(*_SIDE_PIXELS) / max(part.size)
    return part.resize((max(1, round(part.width * scale)), max(1, round(part.height * scale))))


def _jpeg(image: Image.Image, quality: int, exif: Image.Exif | None = None) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, **({"exif": exif} if exif else {}))
    return buffer.getvalue()


def _plain(image: Image.Image, generator: random.Random) -> _Made:
    return _Made("plain", ".jpg", _jpeg(image, generator.randint(80, 93)), True)


def _turned(image: Image.Image, generator: random.Random) -> _Made:
    # The pixels lie on their side and the EXIF tag says so, as phones write it.
    exif = Image.Exif()
    exif[0x0112] = 6
    return _Made("turned", ".jpg", _jpeg(image.rotate(90, expand=True), 88, exif), True)


def _tilted(image: Image.Image, generator: random.Random) -> _Made:
    turned = image.rotate(generator.choice((-12, -7, 7, 12)), expand=True, fillcolor=(240, 240, 240))
    return _Made("tilted", ".jpg", _jpeg(turned, 88), True)


def _blurred(image: Image.Image, generator: random.Random) -> _Made:
    return _Made("blurred", ".jpg", _jpeg(image.filter(ImageFilter.GaussianBlur(generator.uniform(5, 10))), 88), True)


def _dark(image: Image.Image, generator: random.Random) -> _Made:
    return _Made("dark", ".jpg", _jpeg(ImageEnhance.Brightness(image).enhance(generator.uniform(0.12, 0.25)), 88), True)


def _noisy(image: Image.Image, generator: random.Random) -> _Made:
    noise = numpy.random.default_rng(generator.randrange(2**32)).normal(
        0, generator.uniform(40, 60), (*image.size[::-1], 3)
    )
    pixels = numpy.clip(numpy.asarray(image, dtype=numpy.float32) + noise, 0, 255).astype(numpy.uint8)
    return _Made("noisy", ".jpg", _jpeg(Image.fromarray(pixels), 80), True)


def _overcompressed(image: Image.Image, generator: random.Random) -> _Made:
    return _Made("overcompressed", ".jpg", _jpeg(image, generator.randint(3, 8)), True)


def _written_on(image: Image.Image, generator: random.Random) -> _Made:
    written = image.copy()
    draw = ImageDraw.Draw(written)
    lines = generator.sample(_WORDS, generator.randint(1, 3))
    for number, line in enumerate(lines):
        font = ImageFont.load_default(size=image.width * generator.uniform(0.05, 0.09))
        band = (number + generator.uniform(0.1, 0.6)) / len(lines)
        place = (image.width * generator.uniform(0.03, 0.3), image.height * band)
        fill = generator.choice(((255, 255, 255), (255, 230, 0), (230, 20, 20)))
        draw.text(place, line, font=font, fill=fill, stroke_width=2, stroke_fill=(0, 0, 0))
    return _Made("written-on", ".jpg", _jpeg(written, 88), True)


def _other_format(image: Image.Image, generator: random.Random) -> _Made:
    """Return the picture in a format or colour mode that is not the everyday JPEG."""
    name, suffix, mode = generator.choice(
        (
            ("PNG", ".png", "RGB"),
            ("PNG", ".png", "P"),
            ("PNG", ".png", "RGBA"),
            ("PNG", ".png", "I;16"),
            ("WEBP", ".webp", "RGB"),
            ("GIF", ".gif", "P"),
            ("BMP", ".bmp", "RGB"),
            ("TIFF", ".tif", "RGB"),
            ("JPEG", ".jpg", "CMYK"),
            ("JPEG", ".jpg", "L"),
        )
    )
    small = ImageOps.contain(image, (560, 560))
    if mode == "I;16":
        grey = numpy.asarray(small.convert("L"), dtype=numpy.uint16) * 257
        changed = Image.fromarray(grey)
    elif mode == "RGBA":
        changed = small.convert("RGBA")
        changed.putalpha(Image.new("L", small.size, 200))
    else:
        changed = small.convert(mode)
    buffer = io.BytesIO()
    changed.save(buffer, name)
    return _Made(f"{name.lower()}-{mode.lower().replace(';', '')}", suffix, buffer.getvalue(), True)


# (weight, change): about half of the pictures are what a careful seller uploads.
_CHANGES: Final[tuple[tuple[int, Callable[[Image.Image, random.Random], _Made]], ...]] = (
    (40, _plain),
    (8, _turned),
    (6, _tilted),
    (8, _blurred),
    (8, _dark),
    (7, _noisy),
    (7, _overcompressed),
    (10, _written_on),
    (6, _other_format),
)
