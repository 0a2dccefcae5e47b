"""Synchronous scoring of one content with the engine of the stream, avoiding repeated work.

The order is: stored scores (of this process, then of the shared cache), equal bytes in progress, admission, engine.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from app.domain.contents import ContentRow, merged, reason_codes
from app.domain.images import Rejection
from app.domain.outcomes import REJECTED, SCORED
from app.domain.policy import Policy, Subject, Verdict, evaluate, may_be_published, published
from app.errors import DeadlineExceeded, Overloaded, RedisUnavailable
from app.inference.budget import Ticket
from app.inference.engine import EngineTimings
from app.metrics import Meters
from app.pipeline.contents import Computed, Contents, sha256_of
from app.ports.clock import Clock
from app.serving.admission import Admission, Place
from app.serving.ports import ContentCache
from schemas.records import ModelScores, Rendition, RuleMatch

# The cache answers within a millisecond. An answer that takes longer than this costs more than it saves.
_CACHE_SECONDS: Final = 0.25
# After a failure the cache is not used for this time; otherwise each caller in turn would wait for it.
_CACHE_REST_SECONDS: Final = 2.0
# Writes to the cache in progress. Further rows are dropped, which costs work at the next request.
_MOST_PUTS: Final = 64
# Complete answers, about 4 KB each: applying the policy costs more than a look-up.
_KEPT_ANSWERS: Final = 4096
_NO_TIMINGS: Final = EngineTimings(0, 0, 0)


@dataclass(frozen=True, slots=True)
class ScoredContent:
    """Scores and policy verdict of one content. `cached`: nothing was computed for this caller.

    `publishable` is false without a policy, because then no verdict exists.
    """

    sha256: str
    cached: bool
    format: str
    width: int
    height: int
    frames: int
    truncated: bool
    renditions: tuple[Rendition, ...]
    size_bytes: int
    scores: tuple[ModelScores, ...]
    reasons: tuple[str, ...]
    publishable: bool
    action: str
    rules: tuple[RuleMatch, ...]
    timings: EngineTimings
    total_ms: int


class ContentScorer:
    """Scorer of contents for concurrent callers. Belongs to one event loop. Close it before its engine."""

    def __init__(
        self,
        contents: Contents,
        cache: ContentCache,
        admission: Admission,
        *,
        policy: Policy | None,
        clock: Clock,
        meters: Meters,
    ) -> None:
        self._contents = contents
        self._cache = cache
        self._admission = admission
        self._policy = policy
        self._clock = clock
        self._meters = meters
        self._cache_rests_until = float("-inf")
        self._puts: set[asyncio.Task[None]] = set()
        self._answers: OrderedDict[str, ScoredContent] = OrderedDict()
        registry = contents.engine.registry
        self._active = registry.versions()
        self._advice = registry.advice()

    async def score(self, body: bytes, *, deadline: float | None = None) -> ScoredContent | Rejection:
        """Return the scores of all active models, or the rejection of the content.

        `deadline` is a time of the clock's `monotonic`. Raises Overloaded at once if it cannot be met or too much work
        is in progress, and DeadlineExceeded when it passes; the work is then cancelled unless other callers wait for
        the same bytes. Contents with stored scores are always answered. Cancellable.
        """
        began = self._clock.monotonic()
        left = None if deadline is None else max(0.0, deadline - began)
        answer = "failed"
        try:
            async with asyncio.timeout(left) as limit:
                result, answer = await self._score(body, deadline, began)
                return result
        except Overloaded:
            answer = "refused"
            raise
        except TimeoutError as error:
            if not limit.expired():
                raise
            answer = "deadline"
            raise DeadlineExceeded("the deadline passed before the picture was scored") from error
        finally:
            self._meters.count("sightline_api_scores_total", answer=answer)
            self._meters.observe("sightline_api_score_seconds", self._clock.monotonic() - began)
            self._meters.gauge("sightline_api_score_in_flight", self._admission.in_hand)

    def judge(self, rejection: Rejection) -> Verdict | None:
        """Return the verdict on a rejected content; None without a policy."""
        return self._verdict(Subject(REJECTED, rejection.reason.value, ()))

    async def close(self) -> None:
        """Cancel writes to the cache. The cache itself stays open."""
        for put in self._puts:
            put.cancel()
        await asyncio.gather(*self._puts, return_exceptions=True)

    async def _score(self, body: bytes, deadline: float | None, began: float) -> tuple[ScoredContent | Rejection, str]:
        sha256 = await sha256_of(body)
        kept = self._answers.get(sha256)
        if kept is not None:
            self._answers.move_to_end(sha256)
            return replace(kept, total_ms=self._since_ms(began)), "cached"
        row = await self._known_row(sha256)
        known = self._known_scores(row)
        missing = frozenset(self._active) - set(known)
        if row is not None and not missing:
            answer = self._scored(sha256, body, row, known, _NO_TIMINGS, began)
            self._keep(answer)
            return answer, "cached"
        computed, joined = await self._compute(sha256, body, missing, known, deadline)
        if isinstance(computed, Rejection):
            return computed, "rejected"
        full = merged(row, computed.row)
        fresh = frozenset(entry.model for entry in computed.row.scores)
        scores = {
            name: replace(entry, cached=joined or name not in fresh) for name, entry in self._known_scores(full).items()
        }
        if not joined:
            self._put(sha256, full)
        timings = _NO_TIMINGS if joined else computed.timings
        return self._scored(sha256, body, full, scores, timings, began), "joined" if joined else "computed"

    async def _compute(
        self,
        sha256: str,
        body: bytes,
        missing: frozenset[str],
        known: Mapping[str, ModelScores],
        deadline: float | None,
    ) -> tuple[Computed | Rejection, bool]:
        # A caller that joins costs nothing. No await between this test and `compute`.
        place: Place | None = None
        if not self._contents.is_under_way(sha256, missing):
            place = self._admission.enter(None if deadline is None else deadline - self._clock.monotonic())
        recent = self._contents.recent(sha256)
        computed, joined = await self._contents.compute(
            sha256,
            body,
            wanted=missing,
            known=known,
            embeddings=recent.embeddings if recent is not None else {},
            ticket=Ticket(),
            force=False,
            freed=place.leave if place is not None else _nothing,
        )
        if not joined and not isinstance(computed, Rejection):
            self._admission.finished()
        return computed, joined

    def _scored(
        self,
        sha256: str,
        body: bytes,
        row: ContentRow,
        available: Mapping[str, ModelScores],
        timings: EngineTimings,
        began: float,
    ) -> ScoredContent:
        scores = tuple(available[name] for name in self._active if name in available)
        verdict = self._verdict(Subject(SCORED, "", scores, row.frames, row.truncated, row.renditions))
        return ScoredContent(
            sha256=sha256,
            cached=all(entry.cached for entry in scores),
            format=row.format,
            width=row.width,
            height=row.height,
            frames=row.frames,
            truncated=row.truncated,
            renditions=row.renditions,
            size_bytes=len(body),
            scores=scores,
            reasons=reason_codes(scores, self._advice, truncated=row.truncated),
            publishable=verdict is not None and may_be_published(SCORED, verdict.action),
            action=verdict.action if verdict is not None else "",
            rules=verdict.matches if verdict is not None else (),
            timings=timings,
            total_ms=self._since_ms(began),
        )

    def _keep(self, answer: ScoredContent) -> None:
        # Models and policy do not change while the process lives, so an answer stays valid.
        self._answers[answer.sha256] = answer
        if len(self._answers) > _KEPT_ANSWERS:
            self._answers.popitem(last=False)

    def _since_ms(self, began: float) -> int:
        return round((self._clock.monotonic() - began) * 1000)

    def _verdict(self, subject: Subject) -> Verdict | None:
        if self._policy is None:
            return None
        verdict = evaluate(self._policy, subject)
        return replace(verdict, matches=published(verdict))

    # --- stored scores ---

    def _known_scores(self, row: ContentRow | None) -> dict[str, ModelScores]:
        if row is None:
            return {}
        stored = {name: row.find(name, *version) for name, version in self._active.items()}
        return {name: scores for name, scores in stored.items() if scores is not None}

    async def _known_row(self, sha256: str) -> ContentRow | None:
        recent = self._contents.recent(sha256)
        if recent is not None:
            return recent.row
        if self._clock.monotonic() < self._cache_rests_until:
            return None
        try:
            async with asyncio.timeout(_CACHE_SECONDS):
                row = await self._cache.get(sha256)
        except (RedisUnavailable, TimeoutError):
            self._cache_failed("get")
            return None
        if row is not None:
            self._contents.learn(sha256, row)
        return row

    def _put(self, sha256: str, row: ContentRow) -> None:
        """Write a row to the cache in the background."""
        if self._clock.monotonic() < self._cache_rests_until:
            return
        if len(self._puts) >= _MOST_PUTS:
            self._cache_failed("put")
            return
        put = asyncio.create_task(self._put_now(sha256, row))
        self._puts.add(put)
        put.add_done_callback(self._puts.discard)

    async def _put_now(self, sha256: str, row: ContentRow) -> None:
        try:
            async with asyncio.timeout(_CACHE_SECONDS):
                await self._cache.put(sha256, row)
        except (RedisUnavailable, TimeoutError):
            self._cache_failed("put")

    def _cache_failed(self, what: str) -> None:
        self._cache_rests_until = self._clock.monotonic() + _CACHE_REST_SECONDS
        self._meters.count("sightline_api_cache_failures_total", what=what)


def _nothing() -> None:
    """Release nothing."""
