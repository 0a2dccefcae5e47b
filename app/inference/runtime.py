"""The small interface between the engine and the models: what goes in, what comes out, who may block.

The engine decodes a picture once, calls `preprocessing.prepare` once per distinct `ImageInput.geometry`, collects
`ModelInput`s into micro-batches and calls `infer` on an executor thread. Nothing here knows a file or a queue.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from app.inference.embedding import QuantisedEmbedding
from schemas.records import Region

if TYPE_CHECKING:
    from app.inference.manifest import ModelManifest

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]


class Fit(StrEnum):
    """How a picture of any shape becomes the shape that a network wants."""

    STRETCH = "stretch"
    """Both sides to `resize_height` × `resize_width`, shape ignored, then the centre `height` × `width`."""
    ASPECT = "aspect"
    """Long side to `width` (= `height`), both sides rounded to whole multiples of `multiple`. Shapes then differ."""


@dataclass(frozen=True, slots=True)
class ImageInput:
    """What preprocessing a network needs. `version` names it all: it is part of every score's cache key.

    `mean` and `scale` are in the order of the network's channels: value = (pixel - mean) * scale. They are applied
    inside `infer`, so that networks which differ in normalisation alone share one resized picture.
    """

    height: int
    width: int
    version: str
    fit: Fit = Fit.STRETCH
    resize_height: int = 0
    resize_width: int = 0
    multiple: int = 1
    colour_order: str = "rgb"
    layout: str = "nhwc"
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)
    statistics: bool = False

    @property
    def geometry(self) -> tuple[str, int, int, int, int, int, bool]:
        """Two specs of equal geometry are served by one prepared picture."""
        return (
            self.fit.value,
            self.height,
            self.width,
            self.resize_height,
            self.resize_width,
            self.multiple,
            self.statistics,
        )

    def smallest_side_pixels(self) -> int:
        """A decoder may shrink a picture as long as its short side stays at least this (and never enlarges)."""
        wanted = max(self.height, self.width, self.resize_height, self.resize_width)
        # Statistics are measured at viewing scale (statistics.VIEW_SIDE_PIXELS).
        return max(wanted, 512) if self.statistics else wanted


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """One decoded picture: upright (EXIF applied), RGB, alpha flattened; `source_*` is its size before reduction."""

    rgb: Pixels
    source_width: int
    source_height: int


@dataclass(frozen=True, slots=True, eq=False)
class ModelInput:
    """What one picture gives to the networks of one geometry: resized RGB pixels and, where asked for, statistics."""

    pixels: Pixels
    statistics: Floats | None


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutput:
    """What a model says of a batch, row i for input i: scores [n, labels] in the order of the manifest's labels.

    `embeddings` come from a network that declares an embedding, `regions` from one that says where. Neither is ever of
    another length than the batch.
    """

    scores: Floats
    embeddings: tuple[QuantisedEmbedding, ...] | None = None
    regions: tuple[tuple[Region, ...], ...] | None = None


class LoadedNetwork(Protocol):
    """A network or a cascade on pixels, ready to run.

    `infer` blocks for the whole batch (call it on an executor thread), accepts 1 to `manifest.batch.max_batch` inputs,
    may be called from one thread at a time, keeps the order, and raises only Fatal: what decoded never fails here.
    """

    @property
    def manifest(self) -> ModelManifest:
        """The model's own description."""
        ...

    @property
    def runtime(self) -> str:
        """`onnx`, `keras` or `saved_model`: what really runs it, which may be the twin of what the manifest names."""
        ...

    def infer(self, batch: Sequence[ModelInput]) -> ModelOutput:
        """Score prepared pictures."""
        ...


class LoadedHead(Protocol):
    """A head, ready to run on the embeddings of `manifest.embedding_of`: fresh or stored ones, the scores are equal.

    `infer` blocks (well under a millisecond a row), takes any number of rows, may be called from one thread at a time.
    """

    @property
    def manifest(self) -> ModelManifest:
        """The model's own description."""
        ...

    @property
    def runtime(self) -> str:
        """`keras` or `onnx`."""
        ...

    def infer(self, embeddings: Sequence[QuantisedEmbedding]) -> ModelOutput:
        """Score embeddings, which may come from a network's output or from a store."""
        ...
