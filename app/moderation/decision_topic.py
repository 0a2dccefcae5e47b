"""Publication and search of decisions on moderation.decisions.v1."""

from __future__ import annotations

from contextlib import aclosing
from typing import Final

from app.domain.identity import image_key
from app.errors import Poison
from app.ports.publishing import Producer
from app.ports.records import RecordCodec
from app.ports.topics import AtOffsets, AtTime, TopicLog
from app.topics import DECISIONS
from schemas.records import ModerationDecision

# Clocks of two machines differ, so the topic is read from this long before.
_CLOCKS_MS: Final = 60_000


class KafkaDecisionTopic:
    """`DecisionTopic` on a broker."""

    def __init__(self, producer: Producer, log: TopicLog, codec: RecordCodec) -> None:
        self._producer = producer
        self._log = log
        self._codec = codec

    async def publish(self, decision: ModerationDecision, wire: bytes) -> None:
        """See `DecisionTopic`."""
        await self._producer.send_and_wait(DECISIONS, image_key(decision.bucket, decision.key), wire)

    async def find(self, identity: str, bucket: str, key: str, since_ms: int) -> ModerationDecision | None:
        """See `DecisionTopic`; reads one partition from that time on."""
        ends = await self._log.ends(DECISIONS)
        partition = self._log.partition_of(image_key(bucket, key), len(ends))
        start, end = AtTime(max(0, since_ms - _CLOCKS_MS)), AtOffsets({partition: ends[partition]})
        async with aclosing(self._log.scan(DECISIONS, start, end)) as records:
            async for record in records:
                try:
                    decision = self._codec.decode_as(record.value, ModerationDecision)
                except Poison:
                    continue
                if decision.decision_id == identity:
                    return decision
        return None
