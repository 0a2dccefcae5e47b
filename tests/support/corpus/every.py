"""All cases, in the order of the table."""

from __future__ import annotations

from tests.support.corpus import bmp, gif, jpeg, png
from tests.support.corpus.case import Case


def every_case() -> list[Case]:
    """Return all cases; their files are made when they are asked for."""
    return [*jpeg.cases(), *png.cases(), *gif.cases(), *bmp.cases()]
