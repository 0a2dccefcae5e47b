"""Contents in progress: equal bytes are scored once, even if several uploads with them are in hand."""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from app.domain.batching import Priority
from app.domain.contents import ContentRow, decode_row, merged
from app.domain.images import Rejection
from app.inference.budget import Ticket
from app.inference.embedding import QuantisedEmbedding
from app.inference.engine import Engine, EngineScores, EngineTimings
from schemas.records import ModelScores

# A row reaches the table only after the outcome's transaction. Until then, equal bytes are answered from this cache.
# 4,096 rows of four models take about 10 MB, their embeddings 8 MB.
_RECENT_ROWS = 4096
# Hashing runs at about 1 GB/s: up to this size it blocks the event loop for less than a millisecond.
_HASH_INLINE_BYTES: Final = 512 * 1024


@dataclass(slots=True, eq=False)
class Computed:
    """Result of the engine for one content.

    Every upload that waited for it publishes the embeddings, because any one of them may lose its claim at release, and
    its outputs with it.
    """

    row: ContentRow
    """Facts of the picture and computed scores. The format is empty if nothing was decoded."""
    timings: EngineTimings
    embeddings: Mapping[str, QuantisedEmbedding]


@dataclass(frozen=True, slots=True)
class Recent:
    """Recent result for one content: all known scores, and the embeddings of active networks."""

    row: ContentRow
    embeddings: Mapping[str, QuantisedEmbedding]
    kept_in: set[int] = field(default_factory=set)
    """Partitions whose table is known to contain the embeddings; repeated hits skip the lookup."""
    stored: bytes = b""
    """Table value that `row` contains already; repeated hits neither decode nor merge it."""


@dataclass(slots=True, eq=False)
class _InFlight:
    """One computation and the uploads that wait for it."""

    wanted: frozenset[str]
    ticket: Ticket
    task: asyncio.Task[Computed | Rejection]
    waiting: int = 0


@dataclass(slots=True)
class ContentCounts:
    """Counters of answered contents since the start."""

    computed: int = 0
    joined: int = 0
    promoted: int = 0


@dataclass(slots=True, eq=False)
class Contents:
    """Cache and coalescing of computations. One for each worker, shared by its lanes. Belongs to one event loop."""

    engine: Engine
    counts: ContentCounts = field(default_factory=ContentCounts)
    _in_flight: dict[tuple[str, bool], list[_InFlight]] = field(default_factory=dict)
    _recent: OrderedDict[str, Recent] = field(default_factory=OrderedDict)

    def recent(self, sha256: str) -> Recent | None:
        """Return the recent result for this content, or None. A table may not contain it yet."""
        recent = self._recent.get(sha256)
        if recent is not None:
            self._recent.move_to_end(sha256)
        return recent

    def row(self, sha256: str, stored: bytes | None) -> ContentRow | None:
        """Return what the table value `stored` and the recent result contain together, or None."""
        recent = self.recent(sha256)
        if recent is None or stored is None or stored == recent.stored:
            return recent.row if recent is not None else decode_row(stored)
        row = decode_row(stored)
        if row is None:
            return recent.row
        self._recent[sha256] = replace(recent, row=merged(row, recent.row), stored=stored)
        return self._recent[sha256].row

    def learn(self, sha256: str, row: ContentRow) -> None:
        """Cache the result of another process for this content, unless a result is cached already."""
        if sha256 not in self._recent:
            self._keep(sha256, Recent(row, {}))

    def is_under_way(self, sha256: str, wanted: frozenset[str]) -> bool:
        """Return whether `compute` would join a running computation. Valid until the next await."""
        return any(wanted <= computation.wanted for computation in self._in_flight.get((sha256, False), ()))

    async def compute(
        self,
        sha256: str,
        content: bytes,
        *,
        wanted: frozenset[str],
        known: Mapping[str, ModelScores],
        embeddings: Mapping[str, QuantisedEmbedding],
        ticket: Ticket,
        force: bool,
        freed: Callable[[], None],
    ) -> tuple[Computed | Rejection, bool]:
        """Return the result of the models, and whether it was joined: computed for another upload.

        `freed` is called once, when the content is no longer held for this upload. A live upload promotes a computation
        that backfill started. If one upload is cancelled, the computation continues for the others that wait for it.
        """
        key = (sha256, force)
        computation = next(
            (computation for computation in self._in_flight.get(key, ()) if wanted <= computation.wanted), None
        )
        joined = computation is not None
        if computation is None:
            work = self._compute(sha256, content, wanted, known, embeddings, ticket)
            computation = _InFlight(wanted, ticket, asyncio.create_task(work))
            # A callback, because a task that is cancelled before its first step runs none of its code.
            computation.task.add_done_callback(lambda _: freed())
            self._in_flight.setdefault(key, []).append(computation)
            self.counts.computed += 1
        else:
            freed()
            self.counts.joined += 1
            if ticket.priority is Priority.LIVE and computation.ticket.priority is not Priority.LIVE:
                self.engine.promote(computation.ticket)
                self.counts.promoted += 1
        computation.waiting += 1
        try:
            return await asyncio.shield(computation.task), joined
        finally:
            computation.waiting -= 1
            if computation.waiting == 0:
                # Removed before it is cancelled: a later caller must not wait for a cancelled computation.
                self._forget(key, computation)
                computation.task.cancel()

    def _forget(self, key: tuple[str, bool], computation: _InFlight) -> None:
        rest = [other for other in self._in_flight.get(key, ()) if other is not computation]
        if rest:
            self._in_flight[key] = rest
        else:
            self._in_flight.pop(key, None)

    async def _compute(
        self,
        sha256: str,
        content: bytes,
        wanted: frozenset[str],
        known: Mapping[str, ModelScores],
        embeddings: Mapping[str, QuantisedEmbedding],
        ticket: Ticket,
    ) -> Computed | Rejection:
        result = await self.engine.score(content, wanted=wanted, known=known, embeddings=embeddings, ticket=ticket)
        if isinstance(result, Rejection):
            return result
        return self.remember(sha256, result)

    def remember(self, sha256: str, result: EngineScores) -> Computed:
        """Cache the result for the next upload of the same bytes."""
        header = result.header
        computed = ContentRow(
            header.format.value if header else "",
            header.width if header else 0,
            header.height if header else 0,
            tuple(result.scores.values()),
            max(1, header.frames) if header else 1,
            result.truncated,
            result.renditions,
        )
        before = self._recent.get(sha256)
        row = merged(before.row if before else None, computed)
        embeddings = result.embeddings if computed.has_embedding else {}
        if row.format:
            kept = {**(before.embeddings if before else {}), **embeddings} if row.has_embedding else {}
            self._keep(sha256, Recent(row, kept))
        return Computed(computed, result.timings, embeddings)

    def _keep(self, sha256: str, known: Recent) -> None:
        self._recent[sha256] = known
        while len(self._recent) > _RECENT_ROWS:
            self._recent.popitem(last=False)


async def sha256_of(body: bytes) -> str:
    """Return the digest in hexadecimal. A large body is hashed in a thread."""
    if len(body) <= _HASH_INLINE_BYTES:
        return hashlib.sha256(body).hexdigest()
    return await asyncio.to_thread(lambda: hashlib.sha256(body).hexdigest())
