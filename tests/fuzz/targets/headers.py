"""Header inspection: never raises, is quick, and answers within the limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.domain.headers.layout import Wanted
from app.domain.images import ImageHeader, Rejection, ends_early, inspect
from app.inference.decoding.pool import image_limits
from app.settings import LimitSettings
from tests.fuzz.engine import Answer, Broken, Check, Target
from tests.fuzz.images import IMAGES
from tests.fuzz.targets import pictures

_LIMITS: Final = image_limits(LimitSettings())
_WANTED: Final = Wanted(_LIMITS.max_frames, smallest_side=32, frames=5)


def check(content: bytes) -> Answer:
    """Check the promises of app/domain/images.py on one content."""
    found = inspect(content, _LIMITS, _WANTED)
    if isinstance(found, Rejection):
        if found.width < 0 or found.height < 0:
            raise Broken("a negative size")
        # The detail of an unknown format shows its first bytes: each would be an answer of a new kind.
        return Answer(f"{found.format} {found.reason} {found.detail if found.format else ''}")
    _check_header(found)
    early = ends_early(content, found.format)
    return Answer(
        f"{found.format} {found.frames} {early} {found.decoder_bytes.bit_length() // 2} {found.width.bit_length()}"
    )


def _check_header(header: ImageHeader) -> None:
    sides = (header.decoded_width or header.width, header.decoded_height or header.height)
    if not (min(*sides, header.width, header.height) >= 1 and max(sides) <= _LIMITS.max_side):
        raise Broken(f"sides {sides} pass the limits")
    if sides[0] * sides[1] > _LIMITS.max_pixels:
        raise Broken("pixels pass the limits")
    if not 1 <= header.frames <= _LIMITS.max_frames:
        raise Broken(f"{header.frames} frames pass the limits")
    if header.decoder_bytes <= 0:
        raise Broken("decoding takes no memory")


@contextmanager
def _open() -> Iterator[Check]:
    yield check


HEADERS: Final = Target("headers", pictures.seeds, _open, IMAGES, cpu_seconds=0.2)
