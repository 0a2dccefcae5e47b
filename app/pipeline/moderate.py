"""`moderate`: predictions in, flags out, each flag explaining itself."""

from __future__ import annotations

import json

from app import topics
from app.domain.identity import image_key
from app.domain.policy import Policy, flag_for
from app.errors import Poison
from app.pipeline.dead_letters import POISON, dead_letter
from app.ports import Clock, Completion, Output, RecordCodec, SourceRecord
from schemas.records import ControlRecord, ImagePrediction

AGENT = "moderate"
POLICY_KIND = "policy"


class ModerateProcessor:
    """Applies one policy to every prediction. A `Processor`; keeps no state that an outcome depends on.

    The policy itself travels to `control.v1` in the transaction of the first record of each partition, before any flag
    that names it: so every flag's policy version can be read back later (`./sightline explain`).
    """

    def __init__(self, codec: RecordCodec, policy: Policy, clock: Clock, worker: str) -> None:
        self._codec = codec
        self._policy = policy
        self._clock = clock
        self._worker = worker
        # Per partition the offset whose transaction carries the policy. Meeting that offset again, or an earlier one,
        # means that the transaction may have been given up: it is sent again.
        self._archived_at: dict[int, int] = {}

    async def process(self, record: SourceRecord) -> Completion:
        """Return the flag that `record` deserves, or nothing. Waits for nothing."""
        now_ms = self._clock.now_ms()
        outputs: list[Output] = []
        archived_at = self._archived_at.get(record.partition)
        if archived_at is None or record.offset <= archived_at:
            self._archived_at[record.partition] = record.offset
            outputs.append(policy_output(self._policy, self._worker, now_ms))
        try:
            prediction = self._codec.decode_as(record.value, ImagePrediction)
        except Poison as poison:
            outputs.append(
                dead_letter(record, agent=AGENT, kind=POISON, reason=poison.reason, detail=poison.detail, now_ms=now_ms)
            )
            return Completion(outputs=tuple(outputs), dead_letters=1)
        flag = flag_for(self._policy, prediction, record.position, now_ms)
        if flag is not None:
            outputs.append(Output(topics.FLAGGED, image_key(flag.bucket, flag.key), flag))
        return Completion(outputs=tuple(outputs))


def policy_output(policy: Policy, worker: str, now_ms: int) -> Output:
    """Return the record that archives `policy` under `<name>/<version>+<digest>`; writing it again changes nothing."""
    name = f"{policy.name}/{policy.full_version}"
    body = json.dumps({"policy": policy.name, "version": policy.version, "digest": policy.digest, "text": policy.text})
    record = ControlRecord(POLICY_KIND, name, body, now_ms, worker)
    return Output(topics.CONTROL, f"{POLICY_KIND}/{name}".encode(), record)
