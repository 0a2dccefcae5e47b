"""`score`: turns one image task into one outcome. Stored results avoid work where possible.

claimed? → known sha256: stored scores, stored embedding → fetch → sha256 → stored scores → coalesce → missing models.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from app.domain import claims, identity, outcomes
from app.domain.batching import Priority
from app.domain.contents import (
    ContentRow,
    content_key,
    embedding_key,
    encode_row,
    etag_key,
    marked,
    merged,
    reason_codes,
)
from app.domain.images import Rejection
from app.domain.policy import Policy, is_publishable, past_picture
from app.domain.retries import BACKFILL_LANE, Deferral, UsedUp, defer
from app.errors import BadReference, BucketUnavailable, ObjectUnavailable, Poison, StoreUnavailable
from app.inference.budget import Budget, Held, Ticket
from app.inference.decoding.pool import INPUT_BYTES
from app.inference.embedding import QuantisedEmbedding
from app.inference.engine import EngineScores
from app.pipeline.contents import Computed, Contents, sha256_of
from app.pipeline.dead_letters import POISON, USED_UP, DeadLetters
from app.ports.clock import Clock
from app.ports.objects import FetchedObject, ObjectMissing, ObjectRef, ObjectStore
from app.ports.processing import LaneStatus, Tables
from app.ports.records import Claim, Completion, Output, RecordCodec, SourceRecord, TableWrite
from app.settings import Settings
from app.topics import CLAIMS_TABLE, CONTENTS_TABLE, EMBEDDINGS, EMBEDDINGS_TABLE, PREDICTIONS
from schemas.records import ContentEmbedding, ImagePrediction, ImageTask, ModelScores, Timings

AGENT: Final = "score"
# Waits while the store is unavailable: exponential backoff with jitter from 0.5 s up to 30 s, without an end.
_STORE_WAIT_SECONDS: Final = 0.5
_MAX_STORE_WAIT_SECONDS: Final = 30.0


@dataclass(slots=True)
class _Work:
    """One task in progress."""

    record: SourceRecord
    task: ImageTask
    wanted: frozenset[str]
    ticket: Ticket
    began: float
    sha256: str | None = None
    fetched: FetchedObject | None = None
    queued_seconds: float = 0.0
    fetch_seconds: float = 0.0
    decode_ms: int = 0
    infer_ms: int = 0
    engine_queued_ms: int = 0
    outputs: list[Output] = field(default_factory=list)
    writes: list[TableWrite] = field(default_factory=list)


class ScoreProcessor:
    """The `Processor` of live and backfill tasks. All lanes of a worker share one. Belongs to one event loop."""

    def __init__(
        self,
        *,
        codec: RecordCodec,
        store: ObjectStore,
        contents: Contents,
        tables: Tables,
        status: LaneStatus,
        clock: Clock,
        policy: Policy,
        settings: Settings,
        worker: str,
        release: str,
    ) -> None:
        self._codec = codec
        self._letters = DeadLetters(AGENT, codec, clock)
        self._store = store
        self._contents = contents
        self._tables = tables
        self._status = status
        self._clock = clock
        self._policy = policy
        self._settings = settings
        self._worker = worker
        self._release = release
        self._bytes = Budget(settings.engine.max_bytes_in_flight)
        self._fetches = Budget(settings.s3.concurrency)
        registry = contents.engine.registry
        self._active = registry.versions()
        self._advice = registry.advice()
        self._networks = {manifest.embedding_of for manifest in registry.manifests if manifest.embedding_of}

    async def process(self, record: SourceRecord) -> Completion:
        """See Processor. Returns an outcome, a deferral or a dead letter with its claim; nothing for a repeat."""
        task = self._letters.decoded(record, ImageTask)
        if isinstance(task, Completion):
            return task
        try:
            wanted = self._wanted(task)
        except Poison as poison:
            return self._letters.poison(record, poison, task)
        if self._is_repeat(record, task):
            return Completion()
        priority = Priority.BACKFILL if task.lane == BACKFILL_LANE else Priority.LIVE
        work = _Work(record, task, wanted, Ticket(priority), self._clock.monotonic())
        try:
            prediction = await self._outcome(work)
        except (ObjectUnavailable, BucketUnavailable) as error:
            return self._deferred(record, task, error)
        except BadReference as fault:
            # An earlier release of identify published it without this check. A retry would fail in the same way.
            letter = self._letters.letter(record, POISON, fault.reason, fault.detail, task=task, attempts=task.attempt)
            return Completion((letter,), claim_of(task), dead_letters=1)
        key = identity.image_key(prediction.bucket, prediction.key)
        outputs = (Output(PREDICTIONS, key, prediction), *work.outputs)
        return Completion(outputs=outputs, claim=claim_of(task), writes=tuple(work.writes))

    def given_up(self, record: SourceRecord, kind: str, detail: str) -> Completion:
        """See GivesUp. The letter claims the upload as an outcome does, so later repeats publish nothing."""
        task = self._letters.task_in(record)
        letter = self._letters.letter(record, kind, kind, detail, task=task, attempts=task.attempt if task else 1)
        return Completion(outputs=(letter,), claim=claim_of(task) if task else None, dead_letters=1)

    # --- before any work ---

    def _wanted(self, task: ImageTask) -> frozenset[str]:
        """Return the names of the models that the task requests. Raises Poison for a model that is not active."""
        if not task.models:
            return frozenset(self._active)
        names = set()
        for asked in task.models:
            name, _, version = asked.partition("@")
            if name not in self._active or (version and version != self._active[name][0]):
                running = ", ".join(f"{known}@{self._active[known][0]}" for known in sorted(self._active))
                raise Poison("model_not_active", f"{asked}; active are {running}")
            names.add(name)
        return frozenset(names)

    def _is_repeat(self, record: SourceRecord, task: ImageTask) -> bool:
        """Return whether the claim is already lost. Only saves work: the lane decides again at release."""
        claim = claim_of(task)
        row = self._row(CLAIMS_TABLE, record, claims.row_key(claim.upload_id, claim.object_id))
        if row is None:
            return False
        decision = claims.decide(row, claim.stored_at(record.position))
        # A repeat that must update the row goes on to the lane, with an outcome in case the row changes meanwhile.
        return decision.repeat and decision.row is None

    def _row(self, table: str, record: SourceRecord, key: bytes) -> bytes | None:
        try:
            return self._tables.get(table, record.partition, key)
        except KeyError:
            # The partition is being revoked: this result will not be released.
            return None

    # --- the outcome ---

    async def _outcome(self, work: _Work) -> ImagePrediction:
        work.sha256 = self._known_sha256(work)
        if work.sha256 is not None and not work.task.force:
            answer = await self._without_fetch(work, work.sha256)
            if answer is not None:
                return answer
        return await self._with_fetch(work)

    def _known_sha256(self, work: _Work) -> str | None:
        task = work.task
        if task.known_sha256:
            return task.known_sha256
        if task.bucket in self._settings.s3.trust_etag_buckets and task.etag and task.size_bytes:
            digest = self._row(CONTENTS_TABLE, work.record, etag_key(task.bucket, task.etag, task.size_bytes))
            return digest.hex() if digest is not None else None
        return None

    async def _without_fetch(self, work: _Work, sha256: str) -> ImagePrediction | None:
        """Return the outcome from stored scores and embeddings alone, or None if pixels are needed."""
        row = self._content(work.record, sha256)
        if row is None:
            return None
        known = self._known_scores(row)
        missing = work.wanted - set(known)
        if not missing:
            return self._scored(work, row, known, None, joined=False)
        embeddings = self._embeddings(work.record, sha256, row)
        if not embeddings:
            return None
        result = await self._contents.engine.score(
            None, wanted=missing, known=known, embeddings=embeddings, ticket=work.ticket
        )
        if not isinstance(result, EngineScores) or result.missing:
            return None
        return self._scored(work, row, known, self._contents.remember(sha256, result), joined=False)

    async def _with_fetch(self, work: _Work) -> ImagePrediction:
        answer = await self._look(work)
        if isinstance(answer, ObjectMissing) and answer.reason == "gone":
            # Lagging replicas and multipart uploads in completion answer 404 for a moment. Bytes and slot are not held
            # during the pause: otherwise a mass deletion would delay every upload behind it.
            await self._clock.sleep(self._settings.s3.gone_retry_seconds)
            answer = await self._look(work)
        return self._not_there(work, answer) if isinstance(answer, ObjectMissing) else answer

    async def _look(self, work: _Work) -> ImagePrediction | ObjectMissing:
        """Return the outcome of the object in the store, or the reason why it is missing.

        Bytes of the budget are granted in order of request and before a fetch slot, so a slot is never held while
        waiting for bytes.
        """
        task, limit = work.task, self._settings.limits.max_bytes
        # Some servers report size 0 for copies and multipart uploads, so 0 counts as unknown.
        size = min(task.size_bytes or limit, limit)
        asked = self._clock.monotonic()
        held = Held(self._bytes, await self._bytes.take(size + INPUT_BYTES, work.ticket))
        try:
            await self._fetches.take(1, work.ticket)
            try:
                began = self._clock.monotonic()
                work.queued_seconds += began - asked
                fetched = await self._fetch_when_store_answers(task)
                work.fetch_seconds += self._clock.monotonic() - began
            finally:
                self._fetches.give(1)
            if isinstance(fetched, ObjectMissing):
                return fetched
            held.keep(len(fetched.body) + INPUT_BYTES)
            work.fetched = fetched
            work.sha256 = await sha256_of(fetched.body)
            return await self._content_outcome(work, fetched.body, work.sha256, held)
        finally:
            held.release()

    async def _fetch_when_store_answers(self, task: ImageTask) -> FetchedObject | ObjectMissing:
        ref = ObjectRef(task.bucket, task.key, task.version_id, task.etag, task.size_bytes)
        limit = self._settings.limits.max_bytes
        waits = 0
        try:
            while True:
                try:
                    return await self._store.fetch(ref, max_bytes=limit, alternate_key=task.alternate_key)
                except StoreUnavailable:
                    self._status.waiting("store")
                    longest = min(_STORE_WAIT_SECONDS * 2**waits, _MAX_STORE_WAIT_SECONDS)
                    waits = min(waits + 1, 10)
                    await self._clock.sleep(random.uniform(longest / 2, longest))
        finally:
            if waits:
                self._status.working()

    async def _content_outcome(self, work: _Work, body: bytes, sha256: str, held: Held) -> ImagePrediction:
        force = work.task.force
        row = self._content(work.record, sha256)
        self._trust(work, sha256, len(body))
        known = self._known_scores(row) if row is not None and not force else {}
        missing = work.wanted - set(known)
        if not missing and row is not None:
            return self._scored(work, row, known, None, joined=False)
        answer, joined = await self._contents.compute(
            sha256,
            body,
            wanted=missing,
            known=known,
            embeddings={} if force else self._embeddings(work.record, sha256, row),
            ticket=work.ticket,
            force=force,
            freed=held.release,
        )
        if isinstance(answer, Rejection):
            return outcomes.rejected(self._context(work), answer, self._previous(work, row))
        return self._scored(work, row, known, answer, joined=joined)

    def _not_there(self, work: _Work, missing: ObjectMissing) -> ImagePrediction:
        row = self._content(work.record, work.sha256) if work.sha256 else None
        reason = outcomes.missing_reason(missing.reason)
        context = replace(self._context(work), sha256=None, superseded=False)
        if reason is None:
            return outcomes.gone(context, missing.detail, self._previous(work, row))
        return outcomes.rejected(context, Rejection(reason, missing.detail), self._previous(work, row))

    def _scored(
        self,
        work: _Work,
        row: ContentRow | None,
        known: Mapping[str, ModelScores],
        computed: Computed | None,
        *,
        joined: bool,
    ) -> ImagePrediction:
        sha256 = work.sha256 or ""
        fresh: frozenset[str] = frozenset()
        if computed is not None:
            fresh = frozenset(model.model for model in computed.row.scores)
            if not joined:
                timings = computed.timings
                work.engine_queued_ms, work.decode_ms, work.infer_ms = (
                    timings.queued_ms,
                    timings.decode_ms,
                    timings.infer_ms,
                )
            full = merged(row, computed.row)
            work.writes.append(TableWrite(CONTENTS_TABLE, content_key(sha256), encode_row(full)))
        elif row is not None:
            full = row
            if self._row(CONTENTS_TABLE, work.record, content_key(sha256)) is None:
                # Known from another partition, or from an outcome whose table write is still pending.
                work.writes.append(TableWrite(CONTENTS_TABLE, content_key(sha256), encode_row(full)))
        else:
            raise ValueError("neither a stored row nor computed scores")
        # From the merged row, because the labels refer to its renditions.
        current = {name: full.find(name, *version) for name, version in self._active.items()}
        scores = tuple(
            marked(model, cached=joined or name not in fresh)
            for name, model in current.items()
            if model is not None and (name in known or name in fresh)
        )
        self._keep_embeddings(work, sha256, computed, full)
        prediction = outcomes.scored(
            self._context(work),
            content=full,
            scores=scores,
            reasons=reason_codes(scores, self._advice, truncated=full.truncated),
            previous=self._previous(work, row),
        )
        return replace(prediction, publishable=is_publishable(self._policy, prediction))

    def _keep_embeddings(self, work: _Work, sha256: str, computed: Computed | None, content: ContentRow) -> None:
        """Publish and store the embeddings computed for this upload, and recent ones that the table does not have yet.

        The upload for which a recent embedding was computed may lose its claim, and its outputs and writes with it, or
        may not be released yet. Repeats are upserts by sha256.
        """
        if not content.has_embedding:
            return
        fresh = computed.embeddings if computed is not None else {}
        recent = self._contents.recent(sha256)
        due = dict(fresh)
        if recent is not None and work.record.partition not in recent.kept_in:
            before = {name: embedding for name, embedding in recent.embeddings.items() if name not in fresh}
            stored = self._embeddings(work.record, sha256, content) if before else {}
            due |= {name: embedding for name, embedding in before.items() if name not in stored}
            if not due:
                recent.kept_in.add(work.record.partition)
        now_ms = self._clock.now_ms()
        for network, embedding in due.items():
            version, preprocessing = self._active[network]
            record = ContentEmbedding(
                sha256,
                network,
                version,
                preprocessing,
                embedding.dimensions,
                embedding.scale,
                embedding.values,
                now_ms,
            )
            work.outputs.append(Output(EMBEDDINGS, sha256.encode(), record))
            key = embedding_key(sha256, network)
            work.writes.append(TableWrite(EMBEDDINGS_TABLE, key, self._codec.encode(record)))

    def _trust(self, work: _Work, sha256: str, size_bytes: int) -> None:
        task = work.task
        superseded = work.fetched is not None and work.fetched.superseded
        if task.bucket in self._settings.s3.trust_etag_buckets and task.etag and not superseded:
            key = etag_key(task.bucket, task.etag, size_bytes)
            work.writes.append(TableWrite(CONTENTS_TABLE, key, bytes.fromhex(sha256)))

    # --- what is stored ---

    def _content(self, record: SourceRecord, sha256: str) -> ContentRow | None:
        return self._contents.row(sha256, self._row(CONTENTS_TABLE, record, content_key(sha256)))

    def _known_scores(self, row: ContentRow) -> dict[str, ModelScores]:
        stored = {name: row.find(name, *version) for name, version in self._active.items()}
        return {name: scores for name, scores in stored.items() if scores is not None}

    def _embeddings(
        self, record: SourceRecord, sha256: str, content: ContentRow | None
    ) -> dict[str, QuantisedEmbedding]:
        """Return the stored embeddings of a content; none if its row is unusable: they are as old as the row."""
        embeddings: dict[str, QuantisedEmbedding] = {}
        if content is None or not content.has_embedding:
            return embeddings
        for network in self._networks:
            value = self._row(EMBEDDINGS_TABLE, record, embedding_key(sha256, network))
            if value is None:
                continue
            try:
                stored = self._codec.decode_as(value, ContentEmbedding)
            except Poison:
                continue  # written by a version that this one cannot read: will be recomputed
            if (stored.version, stored.preprocessing) == self._active[network]:
                embeddings[network] = QuantisedEmbedding(stored.values, stored.scale)
        return embeddings

    def _previous(self, work: _Work, row: ContentRow | None) -> tuple[ModelScores, ...]:
        """Return the scores that a job's outcome supersedes, if its task does not contain them."""
        if work.task.job_id is None or work.task.previous or row is None:
            return ()
        previous = []
        for name, version in self._active.items():
            before = row.superseded(name, *version) if name in work.wanted else None
            now = before or row.find(name, *version)
            if now is not None:
                previous.append(now)
        return (*previous, past_picture(row.frames, row.truncated)) if previous else ()

    # --- outputs ---

    def _context(self, work: _Work) -> outcomes.OutcomeContext:
        fetched = work.fetched
        total = self._clock.monotonic() - work.began
        return outcomes.OutcomeContext(
            task=work.task,
            position=work.record.position,
            worker=self._worker,
            release=self._release,
            scored_at_ms=self._clock.now_ms(),
            timings=Timings(
                queued_ms=_ms(work.queued_seconds) + work.engine_queued_ms,
                fetch_ms=_ms(work.fetch_seconds),
                decode_ms=work.decode_ms,
                infer_ms=work.infer_ms,
                total_ms=_ms(total),
            ),
            sha256=work.sha256,
            size_bytes=len(fetched.body) if fetched else None,
            # Without a fetch, the scores belong to the same bytes as the outcome that is rescored.
            superseded=fetched.superseded if fetched else work.task.superseded,
            read_key=fetched.key if fetched else None,
            read_etag=fetched.etag if fetched else None,
            read_version_id=fetched.version_id if fetched else None,
        )

    def _deferred(
        self, record: SourceRecord, task: ImageTask, error: ObjectUnavailable | BucketUnavailable
    ) -> Completion:
        now_ms = self._clock.now_ms()
        reason = "object_unavailable" if isinstance(error, ObjectUnavailable) else "bucket_unavailable"
        match defer(task, reason=reason, now_ms=now_ms, retries=self._settings.lane.retries):
            case Deferral(topic, later):
                return Completion((Output(topic, identity.task_key(later), later),), claim_of(task))
            case UsedUp(attempts):
                letter = self._letters.letter(record, USED_UP, reason, str(error), task=task, attempts=attempts)
                return Completion((letter,), claim_of(task), dead_letters=1)


def claim_of(task: ImageTask) -> Claim:
    """Return the claim that the outcome of `task` needs. A job's outcome competes only with its own repeats."""
    object_id = "" if task.job_id is not None else identity.object_id_of(task)
    return Claim(task.upload_id, task.attempt, object_id, task.event_time_ms, task.covers_from_ms, task.covers_until_ms)


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
