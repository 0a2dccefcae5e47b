"""Differences between browsers, and our choice: Chromium 156 against Firefox ESR 153, compared by screenshots."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

DISAGREEMENTS: Final[Mapping[str, str]] = {
    "jpeg, arithmetic coding": "Firefox shows nothing. Scored, because Chromium shows it",
    "jpeg, cut at 50%": "Chromium leaves the missing rows transparent. Only what it draws is compared",
    "jpeg, EXIF, orientation named twice": "Chromium takes the first, Firefox the last. Sightline takes the first",
    "jpeg, EXIF, wrong prefix": "Chromium turns the picture, Firefox does not. Sightline turns it",
    "jpeg, EXIF behind XMP": "Chromium turns the picture, Firefox does not. Sightline turns it",
    "png, cICP PQ": "Firefox maps HDR to SDR in another way. Sightline does as Chromium",
    "png, index beyond the palette": "Chromium and Firefox use different colours. Sightline does as Chromium",
    "png, pixels damaged in the middle": "Chromium shows the rows above it, Firefox nothing. Scored as Chromium",
    "gif, no palette": "Chromium shows colours of its own, Firefox nothing. Scored as Chromium",
    "webp, EXIF orientation 6": "Neither Chromium nor Firefox turns the picture, nor does Sightline",
    "webp, lossy, cut at 98%": (
        "Chromium keeps the rows that it has painted while the file was loading, and shows nothing of a file that "
        "arrives at once. Firefox shows nothing. Sightline scores the rows"
    ),
    "avif, alpha": "Chromium reads its full range as limited range, Firefox does not, nor does Sightline",
    "avif, EXIF orientation 6": "Neither Chromium nor Firefox turns the picture, nor does Sightline",
    "avif, clap": "Chromium ignores the crop, Firefox shows nothing. Sightline ignores the crop",
    "avif, grid of four": "Firefox shows nothing. Scored, because Chromium shows it",
    "avif, ispe says smaller": "Chromium scales the picture to it, Firefox shows nothing. Scored as Chromium",
    "avif, ICC junk": "Firefox shows it, Chromium nothing. Sightline scores it",
    "bmp, RLE24": "Firefox shows nothing. Scored, because Chromium shows it",
    "bmp, cut at 50%": "Chromium leaves the missing rows transparent, Firefox fills them with a colour",
    "ico, several entries": "Firefox shows a smaller entry. Scored as Chromium: the largest, then the most bits",
    "ico, two alike": "Chromium shows the first, Firefox the last. Sightline takes the first",
    "jxl, lossless": "Firefox shows no JPEG XL. Scored, because Chromium shows it",
}
