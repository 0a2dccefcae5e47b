"""Writer of a complete model folder: manifest, card, golden pictures. The folder can be loaded without changes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Any

import yaml
from PIL import Image, ImageDraw, ImageFont

GOLDEN_SIDE_PIXELS = 320


def write_manifest(folder: Path, values: Mapping[str, Any]) -> None:
    """Write model.yaml with the keys in the order given."""
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True, width=110)
    (folder / "model.yaml").write_text(text, encoding="utf-8")


def artefact(folder: Path, name: str) -> dict[str, str]:
    """The manifest's `artefact` for a file of the folder."""
    return {"path": name, "sha256": hashlib.sha256((folder / name).read_bytes()).hexdigest()}


def package_artefact(package: str, path: str) -> dict[str, str]:
    """The manifest's `artefact` for a file that an installed package ships."""
    spec = util.find_spec(package)
    if spec is None or spec.origin is None:
        raise FileNotFoundError(f"the package {package} is not installed")
    file = Path(spec.origin).parent / path
    return {"package": package, "path": path, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}


def packaged_photographs() -> dict[str, Path]:
    """Photographs that scikit-image and scikit-learn ship inside their packages, by name."""
    photographs: dict[str, Path] = {}
    for package, folder, names in (
        ("skimage", "data", ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")),
        ("sklearn", "datasets/images", ("china.jpg", "flower.jpg")),
    ):
        spec = util.find_spec(package)
        if spec is None or spec.origin is None:
            raise FileNotFoundError(f"the package {package} is not installed: training needs requirements/dev.txt")
        photographs |= {name.split(".")[0]: Path(spec.origin).parent / folder / name for name in names}
    return photographs


def write_golden_pictures(folder: Path, *, text: bool = False) -> None:
    """Put small golden pictures into `golden/`: packaged photographs, one drawing, and two with text laid over."""
    target = folder / "golden"
    target.mkdir(parents=True, exist_ok=True)
    for name, path in packaged_photographs().items():
        with Image.open(path) as image:
            small = image.convert("RGB")
            small.thumbnail((GOLDEN_SIDE_PIXELS, GOLDEN_SIDE_PIXELS))
        small.save(target / f"{name}.jpg", quality=90)
        if text and name in {"coffee", "china"}:
            _lay_text(small).save(target / f"{name}_text.jpg", quality=90)
    drawing = Image.new("RGB", (240, 320), (236, 232, 224))
    pen = ImageDraw.Draw(drawing)
    pen.polygon([(70, 60), (170, 60), (200, 110), (165, 120), (165, 270), (75, 270), (75, 120), (40, 110)], "navy")
    drawing.save(target / "drawing.png")


def _lay_text(image: Image.Image) -> Image.Image:
    marked = image.copy()
    pen = ImageDraw.Draw(marked)
    pen.text(
        (20, marked.height // 2),
        "SALE 0171 555 0139",
        "white",
        ImageFont.load_default(22),
        stroke_width=2,
        stroke_fill="black",
    )
    pen.text((marked.width - 150, marked.height - 30), "www.shop.example", "yellow", ImageFont.load_default(14))
    return marked
