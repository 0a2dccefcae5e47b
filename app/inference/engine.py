"""Engine: computes scores from bytes, without a framework. Used by the stream, by `./sightline score` and by the API.

Decode once, in a child process → renditions, one resize for each distinct input → a micro-batch for each network →
heads on the embedding → cascades whose condition holds → the highest score of each label over the renditions. Decoding
and inference never run on the event loop.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from app.domain.batching import BatchRule, Priority
from app.domain.images import ImageHeader, Rejection
from app.inference.batches import run_heads, run_network
from app.inference.budget import Ticket
from app.inference.decoding.pool import DecodePool, Decoding
from app.inference.decoding.process import PreparedImage
from app.inference.decoding.protocol import PrepareJob
from app.inference.device import Device, DeviceCounts
from app.inference.embedding import QuantisedEmbedding
from app.inference.manifest import Kind, ModelManifest
from app.inference.merging import merge_all
from app.inference.model_input import ImageInput
from app.inference.registry import Registry
from app.inference.rendition_scoring import Look, Question, Spent, gather_all, heads_queue, input_of
from app.settings import EngineSettings, InferenceSettings, LimitSettings
from schemas.records import ModelScores, Rendition

# Heads take microseconds a row, so their batches may be large and wait only briefly.
_HEAD_RULE = BatchRule(max_batch=256, max_delay_seconds=0.002)


@dataclass(frozen=True, slots=True)
class EngineTimings:
    """Time of one call by stage in milliseconds. `queued`: waiting for a decoder or a batch."""

    queued_ms: int
    decode_ms: int
    infer_ms: int


@dataclass(frozen=True, slots=True)
class EngineScores:
    """Scores of one content by model.

    `embeddings`: those computed by this call, by network; empty for a content of several renditions, which no single
    embedding represents. `missing`: requested models that need pixels, if none were given. Without decoding, `header`
    is None and `renditions` is empty. Labels refer to `renditions` by index.
    """

    scores: Mapping[str, ModelScores]
    embeddings: Mapping[str, QuantisedEmbedding]
    missing: frozenset[str]
    header: ImageHeader | None
    timings: EngineTimings
    truncated: bool = False
    renditions: tuple[Rendition, ...] = ()


class Engine:
    """Engine of one event loop. Owns a thread until `close`, and child processes unless `pool` is given."""

    def __init__(
        self,
        registry: Registry,
        limits: LimitSettings,
        inference: InferenceSettings,
        settings: EngineSettings,
        pool: Decoding | None = None,
    ) -> None:
        self.registry = registry
        self._limits = limits
        self._settings = settings
        self._manifests = {manifest.name: manifest for manifest in registry.manifests}
        self._whole = frozenset(manifest.name for manifest in registry.manifests if manifest.whole)
        self._smallest_side = smallest_side(registry.manifests)
        self._pool: Decoding = pool or DecodePool(limits, inference)
        self._owns_pool = pool is None
        rules: dict[str, BatchRule] = {}
        runs: dict[str, Any] = {}
        for network in (*registry.networks(), *registry.cascades()):
            manifest = network.manifest
            heads = registry.heads_of(manifest.name)
            rules[manifest.name] = BatchRule(
                min(manifest.batch.max_batch, settings.max_batch),
                min(manifest.batch.max_delay_ms, settings.max_delay_ms) / 1000,
            )
            runs[manifest.name] = partial(run_network, network, heads)
            if heads:
                rules[heads_queue(manifest.name)] = _HEAD_RULE
                runs[heads_queue(manifest.name)] = partial(run_heads, heads)
        self._device = Device(rules, runs)

    @property
    def counts(self) -> DeviceCounts:
        """Counters of batches and their members since the start."""
        return self._device.counts

    @property
    def decoding(self) -> Decoding:
        """Decoders, for their counts and for other users in this process."""
        return self._pool

    @property
    def failure(self) -> BaseException | None:
        """Exception of a model, or None. After it the engine computes nothing; only a new process helps."""
        return self._device.failure

    def waiting(self) -> dict[str, int]:
        """Return the numbers of contents that wait for decoding and in each batch queue."""
        return {"decode": self._pool.waiting, **self._device.waiting()}

    async def score(
        self,
        content: bytes | None,
        *,
        wanted: frozenset[str] | None = None,
        known: Mapping[str, ModelScores] | None = None,
        embeddings: Mapping[str, QuantisedEmbedding] | None = None,
        ticket: Ticket | None = None,
    ) -> EngineScores | Rejection:
        """Return the scores of the models `wanted` (None: all active ones), or the rejection of the content.

        `known` scores are not recomputed; they serve as conditions of cascades. With stored `embeddings` (by network)
        heads run without pixels. Dependencies of the wanted models run too and are part of the result. Cancellable.
        Raises only Fatal, or KeyError for a model that is not active.
        """
        known, stored = known or {}, embeddings or {}
        question = Question(self._closure(wanted, known, stored), known, stored, ticket or Ticket())
        spent = Spent()
        if content is None or not self._needs_pixels(question.wanted):
            look = self._look(question, None, spent)
            missing = await look.run()
            return EngineScores(look.scores, look.embeddings, missing, None, _timings(spent))
        specs = self._specs(question.wanted)
        decoded = await self._pool.run(content, self._job(specs), question.ticket)
        spent.queued_seconds += decoded.queued_seconds
        spent.decode_seconds += decoded.decode_seconds
        try:
            result = decoded.result
            if isinstance(result, Rejection):
                return result
            assert isinstance(result, PreparedImage)
            if stored and len(result.prepared.renditions) > 1:
                # One embedding does not represent several renditions: every network must score each of them.
                return await self.score(content, wanted=wanted, known=known, ticket=ticket)
            return await self._looked_at(question, result, specs, spent)
        finally:
            decoded.release()

    async def _looked_at(
        self, question: Question, result: PreparedImage, specs: Sequence[ImageInput], spent: Spent
    ) -> EngineScores:
        geometries = [spec.geometry for spec in specs]
        looks = [self._look(question, dict(zip(geometries, inputs, strict=True)), Spent()) for inputs in result.inputs]
        missing = await gather_all(*(look.run() for look in looks))
        # Looks run concurrently, so the longest determines the time.
        spent.queued_seconds += max(look.spent.queued_seconds for look in looks)
        spent.infer_seconds += max(look.spent.infer_seconds for look in looks)
        prepared = result.prepared
        return EngineScores(
            scores=merge_all([look.scores for look in looks], prepared.renditions, self._whole),
            embeddings=looks[0].embeddings if len(looks) == 1 else {},
            missing=frozenset().union(*missing),
            header=prepared.header,
            timings=_timings(spent),
            truncated=prepared.truncated,
            renditions=prepared.renditions,
        )

    def promote(self, ticket: Ticket) -> None:
        """Raise a call to live priority in all queues, because a live upload of the same content arrived."""
        if ticket.priority is Priority.LIVE:
            return
        self._pool.promote(ticket)
        self._device.promote(ticket)
        ticket.priority = Priority.LIVE

    # --- what must run ---

    def _look(self, question: Question, inputs: Any, spent: Spent) -> Look:
        return Look(self.registry, self._device, question, inputs, spent)

    def _needs_pixels(self, wanted: frozenset[str]) -> bool:
        return any(self._manifests[name].kind is not Kind.HEAD for name in wanted)

    def _specs(self, wanted: frozenset[str]) -> tuple[ImageInput, ...]:
        """Return one input for each geometry of the networks and cascades in `wanted`."""
        manifests = [
            manifest
            for manifest in self.registry.manifests
            if manifest.name in wanted and manifest.kind is not Kind.HEAD
        ]
        return tuple({input_of(manifest).geometry: input_of(manifest) for manifest in manifests}.values())

    def _job(self, specs: tuple[ImageInput, ...]) -> PrepareJob:
        settings = self._settings
        return PrepareJob(
            specs=specs,
            smallest_side=self._smallest_side,
            frames=settings.frames,
            quadrants_from_pixels=settings.quadrants_from_pixels,
            max_renditions=self._limits.max_renditions,
        )

    def _closure(
        self,
        wanted: frozenset[str] | None,
        known: Mapping[str, ModelScores],
        stored: Mapping[str, QuantisedEmbedding],
    ) -> frozenset[str]:
        """Return the models to run: `wanted` without known ones, plus their dependencies."""
        todo = [name for name in (self._manifests if wanted is None else wanted) if name not in known]
        needed: set[str] = set()
        while todo:
            name = todo.pop()
            if name in needed:
                continue
            needed.add(name)
            manifest = self._manifests[name]
            if manifest.embedding_of and manifest.embedding_of not in stored:
                todo.append(manifest.embedding_of)
            if manifest.run_if is not None and manifest.run_if.model not in known:
                todo.append(manifest.run_if.model)
        return frozenset(needed)

    async def close(self) -> None:
        """Wait for the batch on the device, abandon decoding, and release everything."""
        await self._device.close()
        if self._owns_pool:
            await self._pool.close()


def smallest_side(manifests: Sequence[ModelManifest]) -> int:
    """Return the lower bound of the short side for reduction while decoding: the largest input of these models."""
    return max((manifest.input.smallest_side_pixels() for manifest in manifests if manifest.input), default=0)


def _timings(spent: Spent) -> EngineTimings:
    return EngineTimings(
        round(spent.queued_seconds * 1000), round(spent.decode_seconds * 1000), round(spent.infer_seconds * 1000)
    )
