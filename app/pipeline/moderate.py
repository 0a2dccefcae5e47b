"""`moderate`: turns predictions into flags. Each flag contains its explanation."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Final

from app import topics
from app.domain.identity import image_key
from app.domain.policy import Policy, flag_for
from app.pipeline.dead_letters import DeadLetters
from app.ports.clock import Clock
from app.ports.records import Completion, Output, RecordCodec, SourceRecord
from schemas.records import ControlRecord, ImagePrediction

AGENT: Final = "moderate"
POLICY_KIND: Final = "policy"


class ModerateProcessor:
    """A `Processor` that applies one policy to every prediction. No output depends on its state, except the policy.

    The policy is published on `control.v1` in the transaction of the first record of each partition, before any flag
    that refers to it. So the policy version of every flag can be read later (`./sightline explain`).
    """

    def __init__(self, codec: RecordCodec, policy: Policy, clock: Clock, worker: str) -> None:
        self._letters = DeadLetters(AGENT, codec, clock)
        self._policy = policy
        self._clock = clock
        self._worker = worker
        # By partition: the offset whose transaction contains the policy. If this offset or an earlier one is processed
        # again, that transaction may have been aborted, so the policy is sent again.
        self._archived_at: dict[int, int] = {}

    async def process(self, record: SourceRecord) -> Completion:
        """Return the flag for the prediction in `record`, if any. Never waits."""
        now_ms = self._clock.now_ms()
        outputs: list[Output] = []
        archived_at = self._archived_at.get(record.partition)
        if archived_at is None or record.offset <= archived_at:
            self._archived_at[record.partition] = record.offset
            outputs.append(policy_output(self._policy, self._worker, now_ms))
        prediction = self._letters.decoded(record, ImagePrediction)
        if isinstance(prediction, Completion):
            return replace(prediction, outputs=(*outputs, *prediction.outputs))
        flag = flag_for(self._policy, prediction, record.position, now_ms)
        if flag is not None:
            outputs.append(Output(topics.FLAGGED, image_key(flag.bucket, flag.key), flag))
        return Completion(outputs=tuple(outputs))


def policy_output(policy: Policy, worker: str, now_ms: int) -> Output:
    """Return the record that stores `policy` under `<name>/<version>+<digest>`. Publishing it is idempotent."""
    name = f"{policy.name}/{policy.full_version}"
    body = json.dumps({"policy": policy.name, "version": policy.version, "digest": policy.digest, "text": policy.text})
    record = ControlRecord(POLICY_KIND, name, body, now_ms, worker)
    return Output(topics.CONTROL, f"{POLICY_KIND}/{name}".encode(), record)
