"""Interface between the engine and the models: inputs, outputs, and the calls that may block.

The engine decodes a picture once, calls `preprocessing.prepare` once for each distinct `ImageInput.geometry`, collects
`ModelInput`s into micro-batches and calls `infer` on an executor thread. This module knows no files or queues.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from app.inference.embedding import QuantisedEmbedding
from app.inference.manifest import ModelManifest
from app.inference.model_input import Floats, ModelInput
from schemas.records import Region


@dataclass(frozen=True, slots=True, eq=False)
class ModelOutput:
    """Output of a model for a batch, row i for input i: scores [n, labels] in the order of the manifest's labels.

    `embeddings` are present if the network declares an embedding, `regions` if it locates its label. Both have the
    length of the batch.
    """

    scores: Floats
    embeddings: tuple[QuantisedEmbedding, ...] | None = None
    regions: tuple[tuple[Region, ...], ...] | None = None


class LoadedNetwork(Protocol):
    """A network or a cascade on pixels, ready to run.

    `infer` blocks for the whole batch (call it on an executor thread), accepts 1 to `manifest.batch.max_batch` inputs,
    may be called from one thread at a time, keeps the order, and raises only Fatal: no decoded picture makes it fail.
    """

    @property
    def manifest(self) -> ModelManifest:
        """Manifest of the model."""
        ...

    @property
    def runtime(self) -> str:
        """Runtime in use: `onnx`, `keras` or `saved_model`. It may be that of the twin."""
        ...

    def infer(self, batch: Sequence[ModelInput]) -> ModelOutput:
        """Score prepared pictures."""
        ...


class LoadedHead(Protocol):
    """A head, ready to run on embeddings of `manifest.embedding_of`. Fresh and stored embeddings give equal scores.

    `infer` blocks (well below a millisecond a row), accepts any number of rows, and may be called from one thread at a
    time.
    """

    @property
    def manifest(self) -> ModelManifest:
        """Manifest of the model."""
        ...

    @property
    def runtime(self) -> str:
        """Runtime in use: `keras` or `onnx`."""
        ...

    def infer(self, embeddings: Sequence[QuantisedEmbedding]) -> ModelOutput:
        """Score embeddings, fresh or stored."""
        ...
