"""Text that people lay over photographs: prices, telephone numbers, addresses, watermarks, in many looks."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

_WORDS = (
    "SALE", "NEW", "Size M", "size 38", "Only today", "ORIGINAL", "free shipping", "for sale", "Handmade",
    "-50%",
    "€ 25", "$19.99", "Price 1200", "Sold", "Best quality", "Top!", "100% cotton", "vintage", "Angebot", "gratis",
    "neu",
    "Größe 40", "à vendre", "État neuf", "oferta", "nuevo", "talla L", "Скидка", "Продам", "новое", "размер 46",
    "Ціна 300", "ΠΡΟΣΦΟΡΑ", "νέο", "call me", "DM to buy", "whatsapp", "telegram", "follow us", "cheap", "Brand new",
    "2 for 1", "promo",
)  # fmt: skip
_SITES = ("shop", "mode", "vestido", "outlet", "moda24", "kleider", "style-point", "best-buy", "my.store")
_ENDINGS = (".com", ".net", ".example", ".de", ".ru", ".co.uk", ".shop")
_FONT_FOLDERS = (Path("/usr/share/fonts"), Path("/usr/local/share/fonts"))


def overlay(image: Image.Image, rng: random.Random) -> Image.Image:
    """The picture with one to four pieces of text laid over; each large and strong enough to be read."""
    layer = Image.new("RGBA", image.size)
    style = rng.random()
    if style < 0.15:
        _tiled(layer, rng)
    else:
        for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
            _piece(layer, image, rng)
    return Image.alpha_composite(image.convert("RGBA"), layer).convert("RGB")


def text(rng: random.Random) -> str:
    """A line that somebody could want to be seen."""
    kind = rng.random()
    if kind < 0.25:
        return _telephone(rng)
    if kind < 0.45:
        site = rng.choice(_SITES) + rng.choice(_ENDINGS)
        return rng.choice((site, "www." + site, "@" + site.split(".")[0], "info@" + site, "https://" + site))
    if kind < 0.5:
        return f"© {rng.choice(_SITES).title()} {rng.randint(2012, 2026)}"
    return " ".join(rng.sample(_WORDS, rng.choice((1, 1, 2, 3))))


def _telephone(rng: random.Random) -> str:
    digits = "".join(rng.choice("0123456789") for _ in range(10))
    return rng.choice(
        (
            f"+{digits[0]} {digits[1:4]} {digits[4:7]} {digits[7:]}",
            f"0{digits[1:4]}-{digits[4:]}",
            f"tel. {digits[:3]} {digits[3:6]} {digits[6:]}",
            f"({digits[:3]}) {digits[3:6]}-{digits[6:]}",
            digits,
        )
    )


@cache
def fonts() -> tuple[Path, ...]:
    """TrueType fonts of this machine and of matplotlib, which brings a family of its own; sorted."""
    from matplotlib import get_data_path

    folders = (*_FONT_FOLDERS, Path(get_data_path()) / "fonts" / "ttf")
    fonts_there = [path for folder in folders for path in folder.rglob("*.ttf")]
    # Fonts of mathematical signs hold no letters where words look for them.
    return tuple(
        sorted(path for path in fonts_there if not path.name.startswith(("cm", "STIXSiz", "STIXNon", "LastResort")))
    )


def _font(rng: random.Random, size: int, choices: tuple[Path, ...]) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.truetype(str(rng.choice(choices)), size) if choices else ImageFont.load_default(size)


def _colour(rng: random.Random) -> tuple[int, int, int]:
    if rng.random() < 0.5:
        return rng.choice(((255, 255, 255), (0, 0, 0), (255, 0, 0), (255, 255, 0), (20, 60, 200)))
    return (rng.randrange(256), rng.randrange(256), rng.randrange(256))


def _luminance(colour: tuple[int, ...]) -> float:
    return 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]


def _far_colour(rng: random.Random, back: tuple[int, ...]) -> tuple[int, int, int]:
    for _ in range(20):
        colour = _colour(rng)
        if abs(_luminance(colour) - _luminance(back)) > 80:
            return colour
    return (0, 0, 0) if _luminance(back) > 127 else (255, 255, 255)


def _piece(layer: Image.Image, under: Image.Image, rng: random.Random) -> None:
    words = text(rng)
    side = min(layer.size)
    size = max(15, round(side * rng.uniform(0.045, 0.13)))
    font = _font(rng, size, fonts())
    box = ImageDraw.Draw(layer).textbbox((0, 0), words, font=font)
    width = box[2] - box[0]
    if width > layer.width * 0.95:
        size = max(11, round(size * layer.width * 0.95 / width))
        font = _font(rng, size, fonts())
        box = ImageDraw.Draw(layer).textbbox((0, 0), words, font=font)
    pad = size // 2
    patch = Image.new("RGBA", (round(box[2] - box[0]) + 2 * pad, round(box[3] - box[1]) + 2 * pad))
    left = rng.randint(0, max(0, layer.width - patch.width))
    top = rng.randint(0, max(0, layer.height - patch.height))
    behind = under.crop((left, top, left + patch.width, top + patch.height)).resize((1, 1)).getpixel((0, 0))
    back = behind if isinstance(behind, tuple) else (128, 128, 128)
    pen = ImageDraw.Draw(patch)
    alpha = rng.choice((255, 255, 255, rng.randint(150, 254)))
    look = rng.random()
    if look < 0.3:
        plate = _far_colour(rng, back)
        pen.rectangle((0, 0, *patch.size), fill=(*plate, rng.choice((255, 200, 140))))
        back = plate
    colour = _far_colour(rng, back)
    stroke = max(1, size // 14) if look > 0.7 else 0
    edge = (*_far_colour(rng, colour), alpha)
    place = (pad - box[0], pad - box[1])
    pen.text(place, words, fill=(*colour, alpha), font=font, stroke_width=stroke, stroke_fill=edge)
    if rng.random() < 0.25:
        patch = patch.rotate(rng.choice((90, rng.uniform(-40, 40))), Image.Resampling.BICUBIC, expand=True)
    layer.alpha_composite(
        patch, (min(left, max(0, layer.width - patch.width)), min(top, max(0, layer.height - patch.height)))
    )


def _tiled(layer: Image.Image, rng: random.Random) -> None:
    words = text(rng)
    size = max(13, round(min(layer.size) * rng.uniform(0.04, 0.07)))
    font = _font(rng, size, fonts())
    big = Image.new("RGBA", (layer.width * 2, layer.height * 2))
    pen = ImageDraw.Draw(big)
    colour = (*rng.choice(((255, 255, 255), (0, 0, 0), (200, 200, 200))), rng.randint(90, 190))
    width = round(pen.textlength(words, font=font)) + size * 2
    for row, y in enumerate(range(0, big.height, size * rng.randint(3, 5))):
        for x in range(-(row % 2) * width // 2, big.width, width):
            pen.text((x, y), words, fill=colour, font=font)
    turned = big.rotate(rng.choice((0, 20, 30, 45, -30)))
    left, top = (big.width - layer.width) // 2, (big.height - layer.height) // 2
    layer.alpha_composite(turned.crop((left, top, left + layer.width, top + layer.height)))
