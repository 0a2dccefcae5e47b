"""`label`: turns decisions of moderators into labels for training."""

from __future__ import annotations

from typing import Final

from app.domain.identity import image_key
from app.domain.moderation import labels_of
from app.errors import Poison
from app.pipeline.dead_letters import POISON, dead_letter
from app.ports.clock import Clock
from app.ports.records import Completion, Output, RecordCodec, SourceRecord
from app.topics import LABELS
from schemas.records import ModerationDecision

AGENT: Final = "label"


class LabelProcessor:
    """A stateless `Processor`: a decision contains its labels."""

    def __init__(self, codec: RecordCodec, clock: Clock) -> None:
        self._codec = codec
        self._clock = clock

    async def process(self, record: SourceRecord) -> Completion:
        """Return the labels of the decision in `record`, often none. Never waits."""
        try:
            decision = self._codec.decode_as(record.value, ModerationDecision)
        except Poison as poison:
            now_ms = self._clock.now_ms()
            letter = dead_letter(
                record, agent=AGENT, kind=POISON, reason=poison.reason, detail=poison.detail, now_ms=now_ms
            )
            return Completion(outputs=(letter,), dead_letters=1)
        key = image_key(decision.bucket, decision.key)
        return Completion(outputs=tuple(Output(LABELS, key, label) for label in labels_of(decision)))
