"""`label`: turns decisions of moderators into labels for training."""

from __future__ import annotations

from typing import Final

from app.domain.identity import image_key
from app.domain.moderation import labels_of
from app.pipeline.dead_letters import DeadLetters
from app.ports.clock import Clock
from app.ports.records import Completion, Output, RecordCodec, SourceRecord
from app.topics import LABELS
from schemas.records import ModerationDecision

AGENT: Final = "label"


class LabelProcessor:
    """A stateless `Processor`: a decision contains its labels."""

    def __init__(self, codec: RecordCodec, clock: Clock) -> None:
        self._letters = DeadLetters(AGENT, codec, clock)

    async def process(self, record: SourceRecord) -> Completion:
        """Return the labels of the decision in `record`, often none. Never waits."""
        decision = self._letters.decoded(record, ModerationDecision)
        if isinstance(decision, Completion):
            return decision
        key = image_key(decision.bucket, decision.key)
        return Completion(outputs=tuple(Output(LABELS, key, label) for label in labels_of(decision)))
