"""Seeds of the image targets: the corpus of the oracle test, and small pictures of the other formats."""

from __future__ import annotations

from typing import Final

from tests.support.corpus.every import every_case
from tests.support.pictures import encoded, noise

_MOST_BYTES: Final = 24 * 1024
# The oddity is the size of these; building them takes seconds, and no fuzzing needs them.
_LARGE: Final = ("zeros", "megapixel", "MB", "MP", "oversized")


def seeds(every: int) -> list[bytes]:
    """Return every n-th small file of the corpus, and one picture of each format that the corpus has little of."""
    picture = noise(1, (48, 40))
    made = [encoded(picture, kind) for kind in ("TIFF", "JPEG2000", "HEIF", "AVIF")]
    made += [
        encoded(picture, "TIFF", compression=kind) for kind in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")
    ]
    cases = [case for case in every_case() if not any(word in case.oddity for word in _LARGE)]
    made += [case.build() for case in cases[::every]]
    return [content for content in made if len(content) <= _MOST_BYTES]
