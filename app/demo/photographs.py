"""Photographs that scikit-image and scikit-learn ship, found without importing either package."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import StartupRefused

# (package, folder inside it, files): photographs of things and places, in a fixed order, so that a seed means the same.
_SOURCES: Final = (
    (
        "skimage",
        "data",
        (
            "astronaut.png",
            "camera.png",
            "chelsea.png",
            "coffee.png",
            "coins.png",
            "gravel.png",
            "hubble_deep_field.jpg",
            "motorcycle_left.png",
            "motorcycle_right.png",
            "rocket.jpg",
        ),
    ),
    ("sklearn", "datasets/images", ("china.jpg", "flower.jpg")),
)


@dataclass(frozen=True, slots=True)
class Photograph:
    """One packaged photograph: its short name and where it lies."""

    name: str
    path: Path


def packaged_photographs() -> tuple[Photograph, ...]:
    """Return the photographs that are installed, in a fixed order.

    Raises StartupRefused when there is none: they come with requirements/dev.txt.
    """
    found = []
    for package, folder, names in _SOURCES:
        spec = importlib.util.find_spec(package)
        for location in spec.submodule_search_locations or () if spec else ():
            for name in names:
                path = Path(location, folder, name)
                if path.is_file():
                    found.append(Photograph(path.stem, path))
    if not found:
        raise StartupRefused(
            "no packaged photographs: run `./sightline --install dev`, or name a folder in DEMO_IMAGES"
        )
    return tuple(found)
