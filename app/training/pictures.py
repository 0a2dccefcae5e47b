"""Pictures to train and to measure with: a folder per class, views of a picture, features kept on disk."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageEnhance, ImageOps

from app.errors import ConfigurationError
from app.inference.embedding import QuantisedEmbedding, matrix
from app.inference.manifest import ModelManifest
from app.inference.model_input import Floats, Picture
from app.inference.preprocessing import prepare
from app.inference.runtime import LoadedNetwork

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff"}
View = Callable[[Image.Image, random.Random], Image.Image]
"""Function that derives a picture from a picture, equal for equal random states."""


@dataclass(frozen=True, slots=True)
class LabelledPictures:
    """Files with the class that their folder names; `classes` in alphabetical order."""

    paths: tuple[Path, ...]
    labels: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The folder names."""
        return tuple(sorted(set(self.labels)))


def labelled_pictures(folder: Path) -> LabelledPictures:
    """All pictures of a folder-per-class tree; raises ConfigurationError where there are none."""
    paths = tuple(sorted(path for path in folder.glob("*/*") if path.suffix.lower() in SUFFIXES))
    if not paths:
        raise ConfigurationError(f"{folder}: holds no pictures in class folders, such as {folder}/dress/1.jpg")
    return LabelledPictures(paths, tuple(path.parent.name for path in paths))


def pictures_under(folder: Path) -> tuple[Path, ...]:
    """All pictures below a folder, at any depth; raises ConfigurationError where there are none."""
    paths = tuple(sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES))
    if not paths:
        raise ConfigurationError(f"{folder}: holds no pictures")
    return paths


def open_rgb(path: Path) -> Image.Image:
    """A trusted picture file, upright, RGB."""
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def as_picture(image: Image.Image) -> Picture:
    """The picture as the engine's decoder would hand it over."""
    rgb = np.asarray(image)
    return Picture(rgb=rgb, source_width=image.width, source_height=image.height)


def plain(image: Image.Image, rng: random.Random) -> Image.Image:
    """The picture itself."""
    return image


def mirrored(image: Image.Image, rng: random.Random) -> Image.Image:
    """The picture mirrored."""
    return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)


def varied(image: Image.Image, rng: random.Random) -> Image.Image:
    """A cut of the picture, perhaps mirrored, a little turned, in other light and colour."""
    if rng.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if rng.random() < 0.4:
        image = image.rotate(rng.uniform(-9, 9), Image.Resampling.BILINEAR, fillcolor=(128, 128, 128))
    share = rng.uniform(0.74, 1.0)
    width, height = image.width * share, image.height * min(1.0, share * rng.uniform(0.88, 1.14))
    left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
    image = image.crop((round(left), round(top), round(left + width), round(top + height)))
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        if rng.random() < 0.5:
            image = change(image).enhance(rng.uniform(0.75, 1.3))
    return image


def embeddings_of(
    network: LoadedNetwork,
    paths: Sequence[Path],
    view: View,
    seed: str,
    cache_dir: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> Floats:
    """The embedding, as it is stored, of one view of each picture; row i for `paths[i]`. Cached on disk."""
    key = hashlib.sha256(
        "\n".join(
            [_identity(network.manifest), view.__name__, seed, *(f"{path}{path.stat().st_size}" for path in paths)]
        ).encode()
    ).hexdigest()[:24]
    target = cache_dir / f"{key}.npz"
    if target.is_file():
        progress(len(paths))
        with np.load(target) as arrays:
            cached: Floats = arrays["values"].astype(np.float32) * arrays["scales"][:, None]
            return cached
    kept: list[QuantisedEmbedding] = []
    for images in _chunks(paths, view, seed):
        kept.extend(embed(network, images))
        progress(len(images))
    values = np.stack([np.frombuffer(embedding.values, dtype=np.int8) for embedding in kept])
    scales = np.array([embedding.scale for embedding in kept], dtype=np.float32)
    cache_dir.mkdir(parents=True, exist_ok=True)
    with target.with_suffix(".part").open("wb") as file:
        np.savez(file, values=values, scales=scales)
    target.with_suffix(".part").rename(target)
    return matrix(kept)


def embed(network: LoadedNetwork, images: Sequence[Image.Image]) -> tuple[QuantisedEmbedding, ...]:
    """Embeddings of pictures in memory."""
    spec = network.manifest.input
    assert spec is not None  # a network has one: the manifest's reader refuses it otherwise
    output = network.infer([prepare(as_picture(image), spec) for image in images])
    assert output.embeddings is not None
    return output.embeddings


def _chunks(paths: Sequence[Path], view: View, seed: str, size: int = 16) -> Iterator[list[Image.Image]]:
    def seen(path: Path) -> Image.Image:
        return view(open_rgb(path), random.Random(f"{seed}/{path.parent.name}/{path.name}"))

    with ThreadPoolExecutor(2) as pool:
        for start in range(0, len(paths), size):
            yield list(pool.map(seen, paths[start : start + size]))


def _identity(manifest: ModelManifest) -> str:
    return f"{manifest.id} {manifest.artefact.sha256} {manifest.preprocessing_version}"


def class_indices(labels: Sequence[str], classes: Sequence[str]) -> NDArray[np.int64]:
    """Labels as indices into `classes`."""
    places = {name: index for index, name in enumerate(classes)}
    return np.array([places[label] for label in labels], dtype=np.int64)
