"""The engine: bytes in, scores out, no framework. Used by the stream, by `./sightline score` and by an HTTP API alike.

Decode once → one resize per distinct input → a micro-batch per network → heads on the embedding → cascades whose
condition holds. The event loop neither decodes nor infers.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeVar

import numpy as np

from app.domain.batching import BatchRule, Priority
from app.domain.contents import WHOLE
from app.domain.images import ImageHeader, ImageLimits, Rejection, RejectReason
from app.inference.budget import Budget, Ticket
from app.inference.decoding.decoder import Decoder
from app.inference.device import Device, DeviceCounts
from app.inference.embedding import QuantisedEmbedding
from app.inference.manifest import Kind, ModelManifest
from app.inference.preprocessing import prepare
from app.inference.registry import Registry
from app.inference.runtime import Floats, ImageInput, LoadedHead, LoadedNetwork, ModelInput, Picture
from app.settings import EngineSettings, InferenceSettings, LimitSettings
from schemas.records import LabelScore, ModelScores, Region, Rendition

# Threads beyond `decode_threads` that stand in for ones still busy with an image that was given up.
_SPARE_THREADS = 4
# A decoded picture is kept for the cascades while their conditions are computed; a larger one is prepared for all of
# them at once and dropped. 256 uploads in hand then hold at most 0.5 GB of pixels.
HELD_PIXEL_BYTES = 2 * 1024 * 1024
# Heads cost microseconds a row, so their batches may be large and need not wait.
_HEAD_RULE = BatchRule(max_batch=256, max_delay_seconds=0.002)
_DIGITS = 6

T = TypeVar("T")
Geometry = tuple[str, int, int, int, int, int, bool]


@dataclass(frozen=True, slots=True)
class EngineTimings:
    """Where the time of one call went, milliseconds; `queued` is waiting for a thread or a batch."""

    queued_ms: int
    decode_ms: int
    infer_ms: int


@dataclass(frozen=True, slots=True)
class EngineScores:
    """What the models say. `embeddings` are those computed here, by network.

    `missing` names wanted models that need pixels where none were given. `header` is None where nothing was decoded.
    `renditions` are what the models looked at; each label's `rendition` is an index into them. `truncated`: the file
    ends before the picture does.
    """

    scores: Mapping[str, ModelScores]
    embeddings: Mapping[str, QuantisedEmbedding]
    missing: frozenset[str]
    header: ImageHeader | None
    timings: EngineTimings
    truncated: bool = False
    renditions: tuple[Rendition, ...] = (WHOLE,)


@dataclass(slots=True, eq=False)
class _Prepared:
    """What decoding left: inputs of the networks, and the picture while a cascade may ask for it."""

    header: ImageHeader
    inputs: dict[Geometry, ModelInput]
    picture: Picture | None


@dataclass(slots=True, eq=False)
class _Call:
    """One call in progress."""

    ticket: Ticket
    wanted: frozenset[str]
    scores: dict[str, ModelScores]
    stored: Mapping[str, QuantisedEmbedding]
    embeddings: dict[str, QuantisedEmbedding] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    queued_seconds: float = 0.0
    decode_seconds: float = 0.0
    infer_seconds: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class _Row:
    """What one picture got from a batch: a network's scores and embedding, and its heads' scores."""

    values: Floats | None
    regions: tuple[Region, ...]
    embedding: QuantisedEmbedding | None
    heads: Mapping[str, Floats]
    seconds: float


class Engine:
    """Scores contents. Belongs to one event loop; holds threads until `close`."""

    def __init__(
        self, registry: Registry, limits: LimitSettings, inference: InferenceSettings, settings: EngineSettings
    ) -> None:
        self.registry = registry
        self._limits = limits
        self._manifests = {manifest.name: manifest for manifest in registry.manifests}
        self._decoder = Decoder(image_limits(limits), smallest_side(registry.manifests), limits.decode_seconds)
        threads = max(1, inference.decode_threads)
        self._decode_pool = ThreadPoolExecutor(threads + _SPARE_THREADS, thread_name_prefix="decode")
        self._decode_gate = Budget(threads)
        self._given_up = 0
        rules: dict[str, BatchRule] = {}
        runs: dict[str, Any] = {}
        for network in (*registry.networks(), *registry.cascades()):
            manifest = network.manifest
            heads = registry.heads_of(manifest.name)
            rules[manifest.name] = BatchRule(
                min(manifest.batch.max_batch, settings.max_batch),
                min(manifest.batch.max_delay_ms, settings.max_delay_ms) / 1000,
            )
            runs[manifest.name] = partial(_run_network, network, heads)
            if heads:
                rules[_heads_queue(manifest.name)] = _HEAD_RULE
                runs[_heads_queue(manifest.name)] = partial(_run_heads, heads)
        self._device = Device(rules, runs)

    @property
    def counts(self) -> DeviceCounts:
        """Batches and their members since the start."""
        return self._device.counts

    @property
    def failure(self) -> BaseException | None:
        """What a model raised; nothing can be computed since, and only a new process mends it."""
        return self._device.failure

    def waiting(self) -> dict[str, int]:
        """Return how many wait for decoding and in each batch queue."""
        return {"decode": self._decode_gate.waiting, **self._device.waiting()}

    async def score(
        self,
        content: bytes | None,
        *,
        wanted: frozenset[str] | None = None,
        known: Mapping[str, ModelScores] | None = None,
        embeddings: Mapping[str, QuantisedEmbedding] | None = None,
        ticket: Ticket | None = None,
    ) -> EngineScores | Rejection:
        """Return the scores of `wanted` models (None: all active ones), or why the content is no picture of ours.

        `known` scores are taken as given and serve as conditions of cascades. With stored `embeddings` (by network)
        heads run without pixels. Models that `wanted` ones depend on run too and are part of the result. Cancellable.
        Raises only Fatal, or KeyError for a model that is not active.
        """
        call = _Call(
            ticket or Ticket(),
            self._closure(wanted, known or {}, embeddings or {}),
            dict(known or {}),
            embeddings or {},
        )
        given = frozenset(call.scores)
        prepared: _Prepared | None = None
        missing: frozenset[str] = frozenset()
        networks = [name for name in self._of_kind(Kind.NETWORK) if name in call.wanted]
        cascades = [name for name in self._of_kind(Kind.CASCADE) if name in call.wanted]
        if content is None:
            missing = frozenset(networks) | {
                name
                for name in call.wanted
                if self._manifests[name].embedding_of in networks
                and self._manifests[name].embedding_of not in call.stored
            }
            networks = []
        elif networks or cascades:
            found = await self._decode(content, networks, cascades, call)
            if isinstance(found, Rejection):
                return found
            prepared = found
        stored = {
            self._manifests[name].embedding_of
            for name in call.wanted - missing
            if self._manifests[name].kind is Kind.HEAD and self._manifests[name].embedding_of in call.stored
        }
        await _all(
            *(self._network(name, prepared, call) for name in networks),
            *(self._heads(name, call) for name in sorted(stored)),
        )
        missing |= await self._cascade(cascades, prepared, call)
        timings = EngineTimings(_ms(call.queued_seconds), _ms(call.decode_seconds), _ms(call.infer_seconds))
        scores = {name: found for name, found in call.scores.items() if name not in given}
        fresh = {name: call.embeddings[name] for name in call.fresh}
        return EngineScores(scores, fresh, missing, prepared.header if prepared else None, timings)

    def promote(self, ticket: Ticket) -> None:
        """Make a call live, wherever it stands: a live upload of the same content has come."""
        if ticket.priority is Priority.LIVE:
            return
        self._decode_gate.promote(ticket)
        self._device.promote(ticket)
        ticket.priority = Priority.LIVE

    # --- what must run ---

    def _of_kind(self, kind: Kind) -> list[str]:
        return [manifest.name for manifest in self.registry.manifests if manifest.kind is kind]

    def _closure(
        self,
        wanted: frozenset[str] | None,
        known: Mapping[str, ModelScores],
        stored: Mapping[str, QuantisedEmbedding],
    ) -> frozenset[str]:
        """Return `wanted` without what is known, with all that it depends on."""
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

    # --- decoding ---

    async def _decode(
        self, content: bytes, networks: Sequence[str], cascades: Sequence[str], call: _Call
    ) -> _Prepared | Rejection:
        specs = [_spec(self._manifests[name]) for name in networks]
        later = [_spec(self._manifests[name]) for name in cascades]
        seconds = self._limits.decode_seconds
        found = await self._in_decode_pool(partial(self._decode_now, content, specs, later), call, seconds)
        if found is None:
            return Rejection(RejectReason.DECODE_TIMEOUT, f"not decoded within {seconds:g} s")
        return found

    def _decode_now(
        self, content: bytes, specs: Sequence[ImageInput], later: Sequence[ImageInput]
    ) -> _Prepared | Rejection:
        decoded = self._decoder.decode(content)
        if isinstance(decoded, Rejection):
            return decoded
        picture = decoded.picture
        hold = bool(later) and picture.rgb.nbytes <= HELD_PIXEL_BYTES
        inputs: dict[Geometry, ModelInput] = {}
        for spec in specs if hold else (*specs, *later):
            if spec.geometry not in inputs:
                inputs[spec.geometry] = prepare(picture, spec)
        return _Prepared(decoded.header, inputs, picture if hold else None)

    async def _in_decode_pool(self, work: partial[T], call: _Call, seconds: float | None) -> T | None:
        """Run `work` on a decoding thread; None when it took longer than `seconds`.

        A thread cannot be ended from outside: one that is given up finishes in the background (limits on pixels, frames
        and scans bound it) while a spare takes its place. With all spares in use decoding waits for one of them.
        """
        asked = time.monotonic()
        await self._decode_gate.take(1, call.ticket)
        began = time.monotonic()
        call.queued_seconds += began - asked
        future = asyncio.get_running_loop().run_in_executor(self._decode_pool, work)
        try:
            await asyncio.wait((future,), timeout=seconds)
        finally:
            if future.done():
                self._decode_gate.give(1)
            elif self._given_up < _SPARE_THREADS:
                self._given_up += 1
                self._decode_gate.give(1)
                future.add_done_callback(self._came_back)
            else:
                future.add_done_callback(lambda _: self._decode_gate.give(1))
            call.decode_seconds += time.monotonic() - began
        return future.result() if future.done() else None

    def _came_back(self, future: asyncio.Future[Any]) -> None:
        self._given_up -= 1
        if not future.cancelled():
            future.exception()  # retrieved: nobody waits for it

    # --- inference ---

    async def _network(self, name: str, prepared: _Prepared | None, call: _Call) -> None:
        if prepared is None:
            raise ValueError(f"{name} was planned without a picture")
        heads = frozenset(
            head.manifest.name
            for head in self.registry.heads_of(name)
            if head.manifest.name in call.wanted and name not in call.stored
        )
        row = await self._ask(name, (prepared.inputs[_spec(self._manifests[name]).geometry], heads), call)
        self._note(name, row, call)

    async def _heads(self, network: str, call: _Call) -> None:
        names = frozenset(
            head.manifest.name
            for head in self.registry.heads_of(network)
            if head.manifest.name in call.wanted and head.manifest.name not in call.scores
        )
        row = await self._ask(_heads_queue(network), (call.stored[network], names), call)
        self._note(network, row, call)

    async def _ask(self, queue: str, question: object, call: _Call) -> _Row:
        asked = time.monotonic()
        row: _Row = await self._device.ask(queue, question, call.ticket)
        call.queued_seconds += max(0.0, time.monotonic() - asked - row.seconds)
        call.infer_seconds += row.seconds
        return row

    def _note(self, network: str, row: _Row, call: _Call) -> None:
        if row.values is not None:
            call.scores[network] = self._scores(network, row.values, row.regions)
        if row.embedding is not None:
            call.embeddings[network] = row.embedding
            call.fresh.add(network)
        for name, values in row.heads.items():
            call.scores[name] = self._scores(name, values, ())

    def _scores(
        self, name: str, values: Floats | Sequence[float], regions: tuple[Region, ...], skipped: str = ""
    ) -> ModelScores:
        manifest = self._manifests[name]
        # Rounded, so that the stored and the published score are the same number in every encoding.
        labels = tuple(
            LabelScore(label, round(float(value), _DIGITS))
            for label, value in zip(manifest.labels, values, strict=True)
        )
        preprocessing = self.registry.preprocessing_version(name)
        return ModelScores(name, manifest.version, preprocessing, labels, regions, False, skipped)

    async def _cascade(self, names: Sequence[str], prepared: _Prepared | None, call: _Call) -> frozenset[str]:
        """Run the cascades whose condition holds; return those that would need pixels that are not there."""
        missing: set[str] = set()
        waiting = list(names)
        while waiting:
            ready = [name for name in waiting if _gate(self._manifests[name]) in call.scores]
            if not ready:
                return frozenset(missing | set(waiting))
            waiting = [name for name in waiting if name not in ready]
            running: list[str] = []
            for name in ready:
                run_if = self._manifests[name].run_if
                value = _label(call.scores[_gate(self._manifests[name])], run_if.label) if run_if else 1.0
                if run_if is not None and not run_if.holds(value):
                    reason = f"{run_if.model}.{run_if.label} {value:.4f} is not {run_if.op} {run_if.threshold:g}"
                    call.scores[name] = self._scores(name, [value] * len(self._manifests[name].labels), (), reason)
                elif prepared is None:
                    missing.add(name)
                else:
                    running.append(name)
            if prepared is not None:
                await _all(*(self._run_cascade(name, prepared, call) for name in running))
        return frozenset(missing)

    async def _run_cascade(self, name: str, prepared: _Prepared, call: _Call) -> None:
        spec = _spec(self._manifests[name])
        if spec.geometry not in prepared.inputs and prepared.picture is not None:
            ready = await self._in_decode_pool(partial(prepare, prepared.picture, spec), call, None)
            if ready is not None:
                prepared.inputs[spec.geometry] = ready
        row = await self._ask(name, (prepared.inputs[spec.geometry], frozenset()), call)
        combine = self._manifests[name].combine
        if combine is not None and row.values is not None:
            other = _label(call.scores[combine.model], combine.label)
            row = replace(row, values=np.array([combine.score(other, float(row.values[0]))], dtype=np.float32))
        self._note(name, row, call)

    async def close(self) -> None:
        """Release the threads; work on the device is waited for, decoding that was given up is not."""
        await self._device.close()
        self._decode_pool.shutdown(wait=False, cancel_futures=True)


def image_limits(limits: LimitSettings) -> ImageLimits:
    """Return the limits that the decoder checks."""
    return ImageLimits(limits.max_bytes, limits.max_pixels, limits.max_side, limits.max_frames)


def smallest_side(manifests: Sequence[ModelManifest]) -> int:
    """Return how far a picture may shrink while decoding: the largest input that any of these models takes."""
    return max((manifest.input.smallest_side_pixels() for manifest in manifests if manifest.input), default=0)


async def _all(*calls: Any) -> None:
    """Await all; the first error cancels the others, which a plain gather would leave running."""
    if len(calls) == 1:
        await calls[0]
    elif calls:
        tasks = [asyncio.ensure_future(call) for call in calls]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()


def _run_network(
    network: LoadedNetwork, heads: Sequence[LoadedHead], batch: Sequence[tuple[ModelInput, frozenset[str]]]
) -> list[_Row]:
    began = time.monotonic()
    output = network.infer([one for one, _ in batch])
    embeddings = output.embeddings
    answers = _head_answers(heads, embeddings, [names for _, names in batch]) if embeddings is not None else None
    seconds = time.monotonic() - began
    return [
        _Row(
            values=output.scores[index],
            regions=output.regions[index] if output.regions is not None else (),
            embedding=embeddings[index] if embeddings is not None else None,
            heads=answers[index] if answers is not None else {},
            seconds=seconds,
        )
        for index in range(len(batch))
    ]


def _run_heads(heads: Sequence[LoadedHead], batch: Sequence[tuple[QuantisedEmbedding, frozenset[str]]]) -> list[_Row]:
    began = time.monotonic()
    answers = _head_answers(heads, [one for one, _ in batch], [names for _, names in batch])
    seconds = time.monotonic() - began
    return [_Row(None, (), None, found, seconds) for found in answers]


def _head_answers(
    heads: Sequence[LoadedHead], embeddings: Sequence[QuantisedEmbedding], wanted: Sequence[frozenset[str]]
) -> list[dict[str, Floats]]:
    """Run each head once, on the rows that want it."""
    answers: list[dict[str, Floats]] = [{} for _ in embeddings]
    for head in heads:
        name = head.manifest.name
        rows = [index for index, names in enumerate(wanted) if name in names]
        if rows:
            scores = head.infer([embeddings[index] for index in rows]).scores
            for row, index in enumerate(rows):
                answers[index][name] = scores[row]
    return answers


def _heads_queue(network: str) -> str:
    return f"{network}/heads"


def _spec(manifest: ModelManifest) -> ImageInput:
    if manifest.input is None:
        raise ValueError(f"{manifest.id} takes no pixels")
    return manifest.input


def _gate(manifest: ModelManifest) -> str:
    return manifest.run_if.model if manifest.run_if else ""


def _label(scores: ModelScores, label: str) -> float:
    return next(score.value for score in scores.labels if score.label == label)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
