"""The small interface between the engine and the models: what goes in, what comes out, who may block.

The engine decodes a picture once, calls `preprocessing.prepare` once per distinct `ImageInput.geometry`, collects
`ModelInput`s into micro-batches and calls `infer` on an executor thread. Nothing here knows a file or a queue.
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
