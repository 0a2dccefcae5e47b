"""Work of the device's thread: one batch through a network and its heads, or through heads alone."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from app.inference.embedding import QuantisedEmbedding
from app.inference.model_input import Floats, ModelInput
from app.inference.runtime import LoadedHead, LoadedNetwork
from schemas.records import Region


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """Result of one rendition in a batch: a network's scores and embedding, and its heads' scores."""

    values: Floats | None
    regions: tuple[Region, ...]
    embedding: QuantisedEmbedding | None
    heads: Mapping[str, Floats]
    seconds: float


def run_network(
    network: LoadedNetwork, heads: Sequence[LoadedHead], batch: Sequence[tuple[ModelInput, frozenset[str]]]
) -> list[Row]:
    """Return the rows of a batch of inputs, each given with the names of its requested heads. Blocks."""
    began = time.monotonic()
    output = network.infer([model_input for model_input, _ in batch])
    embeddings = output.embeddings
    answers = _head_answers(heads, embeddings, [names for _, names in batch]) if embeddings is not None else None
    seconds = time.monotonic() - began
    return [
        Row(
            values=output.scores[index],
            regions=output.regions[index] if output.regions is not None else (),
            embedding=embeddings[index] if embeddings is not None else None,
            heads=answers[index] if answers is not None else {},
            seconds=seconds,
        )
        for index in range(len(batch))
    ]


def run_heads(heads: Sequence[LoadedHead], batch: Sequence[tuple[QuantisedEmbedding, frozenset[str]]]) -> list[Row]:
    """Return the rows of a batch of stored embeddings, each given with the names of its requested heads. Blocks."""
    began = time.monotonic()
    answers = _head_answers(heads, [embedding for embedding, _ in batch], [names for _, names in batch])
    seconds = time.monotonic() - began
    return [Row(None, (), None, scores, seconds) for scores in answers]


def _head_answers(
    heads: Sequence[LoadedHead], embeddings: Sequence[QuantisedEmbedding], wanted: Sequence[frozenset[str]]
) -> list[dict[str, Floats]]:
    """Run each head once, on the rows that request it."""
    answers: list[dict[str, Floats]] = [{} for _ in embeddings]
    for head in heads:
        name = head.manifest.name
        rows = [index for index, names in enumerate(wanted) if name in names]
        if rows:
            scores = head.infer([embeddings[index] for index in rows]).scores
            for row, index in enumerate(rows):
                answers[index][name] = scores[row]
    return answers
