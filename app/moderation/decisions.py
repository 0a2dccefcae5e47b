"""Decisions on flagged images: each is published once, however often its client repeats the request.

The order is: a claim in the decision log, the record on moderation.decisions.v1, the entry that it was made. A process
that meets a claim without a record searches the topic before it publishes, because the owner of the claim may have died
in between.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Protocol

from app.domain.moderation import SKIP, Verb, decision_id, is_settled, judged, waiting, waits
from app.errors import Refused
from app.moderation.ports import DecisionLog
from app.pipeline.index import ImageFacts
from app.ports.clock import Clock
from app.ports.index import IndexEntry
from app.ports.records import RecordCodec
from schemas.records import FlaggedImage, ImagePrediction, ModerationDecision

# A request that takes longer than this has died, or waits for a broker that does not answer. The wait for the broker is
# shorter (app/systems/kafka/producer.py), so that two processes never publish concurrently.
_OPEN_MS: Final = 45_000


class DecisionRefused(Refused):
    """A decision that cannot be made; `code` is stable and says why.

    Operator: nothing to do; the client's request does not fit the state of the image.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True)
class DecisionRequest:
    """Request of a moderator. `client_id` is the client's id of the decision. `flag_id` empty: the flag in force."""

    client_id: str
    bucket: str
    key: str
    decision: Verb
    reason: str = ""
    flag_id: str = ""
    reverses: str = ""

    def canonical(self) -> str:
        """Return the request as text; equal requests have equal texts."""
        parts = (self.bucket, self.key, self.decision, self.reason, self.flag_id, self.reverses)
        return json.dumps(parts, ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Decided:
    """Published decision. `repeated`: it was published before this request."""

    record: ModerationDecision
    repeated: bool


class DecisionTopic(Protocol):
    """Topic of decisions; implemented in app/moderation/decision_topic.py."""

    async def publish(self, decision: ModerationDecision, wire: bytes) -> None:
        """Return when the record is on the topic. After BrokerUnavailable it may still be there."""
        ...

    async def find(self, identity: str, bucket: str, key: str, since_ms: int) -> ModerationDecision | None:
        """Return the decision if it was published at `since_ms` or later. Raises BrokerUnavailable."""
        ...


class Decisions:
    """Publisher of decisions. Safe for concurrent calls, in one and in several processes."""

    def __init__(
        self,
        *,
        facts: ImageFacts,
        log: DecisionLog,
        topic: DecisionTopic,
        codec: RecordCodec,
        clock: Clock,
        actions: Collection[str],
    ) -> None:
        self._facts = facts
        self._log = log
        self._topic = topic
        self._codec = codec
        self._clock = clock
        self._actions = frozenset(actions)

    async def decide(self, moderator: str, request: DecisionRequest) -> Decided:
        """Return the decision once it is published.

        Raises DecisionRefused (`unknown_image`, `flag_changed`, `unknown_decision`, `already_decided`, `id_taken`,
        `in_progress`), RedisUnavailable and BrokerUnavailable; after the latter two the same request may be sent again.
        """
        identity = decision_id(moderator, request.client_id)
        claim = await self._log.claim(identity, request.canonical(), _OPEN_MS)
        if claim.request != request.canonical():
            raise DecisionRefused("id_taken", f"decision {request.client_id} was requested before with another content")
        if claim.wire is not None:
            return Decided(self._codec.decode_as(claim.wire, ModerationDecision), repeated=True)
        if not claim.new:
            if not claim.taken:
                raise DecisionRefused(
                    "in_progress", "the same decision is being made; repeat the request in some seconds"
                )
            published = await self._topic.find(identity, request.bucket, request.key, claim.since_ms)
            if published is not None:
                return Decided(await self._settle(published, self._codec.encode(published), moderator), repeated=True)
        try:
            record = await self._record(identity, moderator, request)
        except BaseException:
            # Nothing was published. The next request with this id is handled like the first.
            await self._log.abandon(identity)
            raise
        wire = self._codec.encode(record)
        await self._topic.publish(record, wire)
        return Decided(await self._settle(record, wire, moderator), repeated=False)

    async def _record(self, identity: str, moderator: str, request: DecisionRequest) -> ModerationDecision:
        image = await self._facts.index.image(request.bucket, request.key)
        if image is None or image.prediction is None:
            raise DecisionRefused("unknown_image", "no outcome of this image is known")
        flag, before = image.flag, image.decision
        if request.flag_id and (flag is None or flag.flag_id != request.flag_id):
            raise DecisionRefused(
                "flag_changed",
                "that flag is no longer in force: the image was uploaded or scored again",
            )
        if request.reverses and (before is None or before.decision_id != request.reverses):
            raise DecisionRefused("unknown_decision", f"{request.reverses} is not the latest decision on this image")
        settled = before if is_settled(before) else None
        if request.decision == SKIP and settled is not None and not request.reverses:
            # A skip leaves the image to other moderators, and one of them has decided.
            raise DecisionRefused("already_decided", f"{settled.moderator} decided on this image in the meantime")
        reverses = request.reverses or (settled.decision_id if settled is not None else None)
        # Clocks of two processes differ, and a decision that reverses another must be later.
        now_ms = max(self._clock.now_ms(), before.decided_at_ms + 1 if before is not None else 0)
        return _decision(identity, moderator, request, image.prediction, flag, reverses, now_ms)

    async def _settle(self, record: ModerationDecision, wire: bytes, moderator: str) -> ModerationDecision:
        """Store a published decision in the index at once. The agent `index` does the same, later."""
        reversed_kind = ""
        if record.reverses is not None:
            kept = await self._facts.index.history(record.bucket, record.key)
            reversed_kind = next(
                (decision.decision for decision in kept.decisions if decision.decision_id == record.reverses), ""
            )
        entry = IndexEntry(record, wire)
        if record.decision == SKIP:
            await self._hand_back(record, entry, moderator)
        else:
            await self._facts.store([entry])
        await self._log.made(record, wire, reversed_kind)
        return record

    async def _hand_back(self, record: ModerationDecision, entry: IndexEntry, moderator: str) -> None:
        image = (record.bucket, record.key)
        if record.reverses is None:
            await self._facts.queue.skip(moderator, image)
            await self._facts.store([entry])
            return
        # First only the index: in the queue the image must appear only as leased to the moderator who withdrew.
        await self._facts.index.apply([entry])
        known = await self._facts.index.image(*image)
        if known is not None and waits(known.flag, known.decision, self._actions):
            await self._facts.queue.take(moderator, waiting(known.flag))


def _decision(
    identity: str,
    moderator: str,
    request: DecisionRequest,
    outcome: ImagePrediction,
    flag: FlaggedImage | None,
    reverses: str | None,
    now_ms: int,
) -> ModerationDecision:
    return ModerationDecision(
        decision_id=identity,
        bucket=outcome.bucket,
        key=outcome.key,
        version_id=outcome.version_id,
        etag=outcome.etag,
        sha256=outcome.sha256,
        upload_id=outcome.upload_id,
        flag_id=flag.flag_id if flag is not None else None,
        decision=request.decision,
        reason=request.reason,
        moderator=moderator,
        policy=flag.policy if flag is not None else "",
        policy_version=flag.policy_version if flag is not None else "",
        reverses=reverses,
        dialect=outcome.dialect,
        order_key=outcome.order_key,
        event_time_ms=outcome.event_time_ms,
        decided_at_ms=now_ms,
        labels=judged(flag, request.decision, request.reason, reverses=reverses is not None) if flag else (),
    )
