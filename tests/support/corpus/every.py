"""All cases, in the order of the table."""

from __future__ import annotations

from tests.support.corpus import apng, avif, bmp, gif, ico, jpeg, jpeg_exif, other, png, png_structure, webp
from tests.support.corpus.case import Case


def every_case() -> list[Case]:
    """Return all cases; their files are made when they are asked for."""
    sources = (jpeg, jpeg_exif, png, png_structure, apng, gif, webp, avif, bmp, ico, other)
    return [case for source in sources for case in source.cases()]
