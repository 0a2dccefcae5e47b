"""Scoring of one rendition by networks, heads on their embeddings, and cascades whose condition holds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from app.inference.batches import Row
from app.inference.budget import Ticket
from app.inference.device import Device
from app.inference.embedding import QuantisedEmbedding
from app.inference.manifest import Kind, ModelManifest
from app.inference.model_input import Floats, ImageInput, ModelInput
from app.inference.registry import Registry
from schemas.records import LabelScore, ModelScores, Region

_DIGITS = 6

T = TypeVar("T")

Geometry = tuple[str, int, int, int, int, int, bool]


@dataclass(slots=True)
class Spent:
    """Time of one call by stage."""

    queued_seconds: float = 0.0
    decode_seconds: float = 0.0
    infer_seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """Request for one content, the same for all its renditions.

    `known` scores serve as conditions of cascades and are not recomputed. `stored` embeddings replace runs of networks.
    """

    wanted: frozenset[str]
    known: Mapping[str, ModelScores]
    stored: Mapping[str, QuantisedEmbedding]
    ticket: Ticket


@dataclass(slots=True, eq=False)
class Look:
    """One rendition in progress. `inputs` is None without pixels; then stored embeddings are used."""

    registry: Registry
    device: Device
    question: Question
    inputs: Mapping[Geometry, ModelInput] | None
    spent: Spent
    scores: dict[str, ModelScores] = field(default_factory=dict)
    embeddings: dict[str, QuantisedEmbedding] = field(default_factory=dict)

    async def run(self) -> frozenset[str]:
        """Fill `scores` and `embeddings`. Return the wanted models that need pixels, if there are none."""
        wanted, stored = self.question.wanted, self.question.stored
        networks = [name for name in self._of_kind(Kind.NETWORK) if name in wanted]
        missing: frozenset[str] = frozenset()
        if self.inputs is None:
            missing = frozenset(networks) | {
                name for name in wanted if self._backbone(name) in networks and self._backbone(name) not in stored
            }
            networks = []
        answered = {
            self._backbone(name)
            for name in wanted - missing
            if self._manifest(name).kind is Kind.HEAD and self._backbone(name) in stored
        }
        await gather_all(
            *(self._network(name) for name in networks),
            *(self._heads(name) for name in sorted(answered)),
        )
        return missing | await self._cascades([name for name in self._of_kind(Kind.CASCADE) if name in wanted])

    def _of_kind(self, kind: Kind) -> list[str]:
        return [manifest.name for manifest in self.registry.manifests if manifest.kind is kind]

    def _manifest(self, name: str) -> ModelManifest:
        return self.registry.manifest(name)

    def _backbone(self, name: str) -> str:
        return self._manifest(name).embedding_of

    def _scores_of(self, name: str) -> ModelScores | None:
        return self.scores.get(name) or self.question.known.get(name)

    async def _network(self, name: str) -> None:
        heads = frozenset(
            head.manifest.name
            for head in self.registry.heads_of(name)
            if head.manifest.name in self.question.wanted and name not in self.question.stored
        )
        self._note(name, await self._ask(name, (self._input(name), heads)))

    def _input(self, name: str) -> ModelInput:
        if self.inputs is None:
            raise ValueError(f"{name} was planned without a picture")
        return self.inputs[input_of(self._manifest(name)).geometry]

    async def _heads(self, network: str) -> None:
        names = frozenset(
            head.manifest.name
            for head in self.registry.heads_of(network)
            if head.manifest.name in self.question.wanted and self._scores_of(head.manifest.name) is None
        )
        self._note(network, await self._ask(heads_queue(network), (self.question.stored[network], names)))

    async def _ask(self, queue: str, question: object) -> Row:
        asked = time.monotonic()
        row: Row = await self.device.ask(queue, question, self.question.ticket)
        self.spent.queued_seconds += max(0.0, time.monotonic() - asked - row.seconds)
        self.spent.infer_seconds += row.seconds
        return row

    def _note(self, network: str, row: Row) -> None:
        if row.values is not None:
            self.scores[network] = self._scores(network, row.values, row.regions)
        if row.embedding is not None:
            self.embeddings[network] = row.embedding
        for name, values in row.heads.items():
            self.scores[name] = self._scores(name, values, ())

    def _scores(
        self, name: str, values: Floats | Sequence[float], regions: tuple[Region, ...], skipped: str = ""
    ) -> ModelScores:
        manifest = self._manifest(name)
        # Rounded, so that the stored and the published score are the same number in all encodings.
        labels = tuple(
            LabelScore(label, round(float(value), _DIGITS))
            for label, value in zip(manifest.labels, values, strict=True)
        )
        preprocessing = self.registry.preprocessing_version(name)
        return ModelScores(name, manifest.version, preprocessing, labels, regions, False, skipped)

    async def _cascades(self, names: Sequence[str]) -> frozenset[str]:
        """Run the cascades whose condition holds. Return those that need pixels, if there are none."""
        missing: set[str] = set()
        waiting = list(names)
        while waiting:
            ready = [name for name in waiting if self._scores_of(_gate(self._manifest(name))) is not None]
            if not ready:
                return frozenset(missing | set(waiting))
            waiting = [name for name in waiting if name not in ready]
            running = [name for name in ready if self._must_run(name)]
            if self.inputs is None:
                missing |= set(running)
            else:
                await gather_all(*(self._cascade(name) for name in running))
        return frozenset(missing)

    def _must_run(self, name: str) -> bool:
        """Return whether the condition of a cascade holds. Otherwise give the cascade its gate's value."""
        manifest = self._manifest(name)
        run_if = manifest.run_if
        value = self._label(_gate(manifest), run_if.label) if run_if else 1.0
        if run_if is None or run_if.holds(value):
            return True
        reason = f"{run_if.model}.{run_if.label} {value:.4f} is not {run_if.op} {run_if.threshold:g}"
        self.scores[name] = self._scores(name, [value] * len(manifest.labels), (), reason)
        return False

    async def _cascade(self, name: str) -> None:
        row = await self._ask(name, (self._input(name), frozenset()))
        combine = self._manifest(name).combine
        if combine is not None and row.values is not None:
            other = self._label(combine.model, combine.label)
            row = replace(row, values=np.array([combine.score(other, float(row.values[0]))], dtype=np.float32))
        self._note(name, row)

    def _label(self, model: str, label: str) -> float:
        scores = self._scores_of(model)
        if scores is None:
            raise KeyError(model)
        return next(score.value for score in scores.labels if score.label == label)


def input_of(manifest: ModelManifest) -> ImageInput:
    """Return the input of a network. Raises ValueError for a model without pixel input."""
    if manifest.input is None:
        raise ValueError(f"{manifest.id} takes no pixels")
    return manifest.input


def heads_queue(network: str) -> str:
    """Return the name of the queue for stored embeddings of `network`."""
    return f"{network}/heads"


async def gather_all(*calls: Coroutine[Any, Any, T]) -> list[T]:
    """Return all results. The first error cancels the other calls, unlike in `asyncio.gather`."""
    if len(calls) == 1:
        return [await calls[0]]
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


def _gate(manifest: ModelManifest) -> str:
    return manifest.run_if.model if manifest.run_if else ""
