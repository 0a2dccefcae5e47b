"""Decision whether a prediction is flagged.

A live upload is flagged if its verdict is more than advice. A rescored upload is flagged only if its verdict differs
from the earlier one. The earlier state is part of the task and of the prediction (`previous`): the earlier scores, and
up to three entries under reserved model names that no model can have:

* `outcome.past`: the earlier outcome if it was not `scored` (label: the outcome; `skipped`: its reason);
* `picture.past`: facts of the earlier picture if it was scored (labels: `frames`, and `truncated` as 1 or 0);
* `verdict.past`: the earlier decision of `moderate` (labels: the rules with severity/100; `skipped`: the action;
  `version`: the policy version). Without it, this policy is applied to the earlier scores.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Final

from app.domain.policy.evaluate import Subject, Verdict, blocks, evaluate
from app.domain.policy.rules import BLOCK, FRAMES, NO_ACTION, TRUNCATED, Policy, is_published
from schemas.records import FlaggedImage, ImagePrediction, LabelScore, ModelScores, Position, RuleMatch

# Names of models contain no dot (app/inference/manifest.py), so these names never collide with a model.
PAST_OUTCOME: Final = "outcome.past"
PAST_PICTURE: Final = "picture.past"
PAST_VERDICT: Final = "verdict.past"
FLAGGED: Final = "flagged"
CLEARED: Final = "cleared"


@dataclass(frozen=True, slots=True)
class Past:
    """State of an image before its rescoring. `action` is None if the earlier verdict is unknown."""

    subject: Subject
    action: str | None
    rules: tuple[str, ...]


def past_outcome(outcome: str, reason: str) -> ModelScores:
    """Return the `previous` entry for the outcome of an upload without scores."""
    return ModelScores(PAST_OUTCOME, "", "", (LabelScore(outcome, 1.0),), (), cached=False, skipped=reason)


def past_picture(frames: int, truncated: bool) -> ModelScores:
    """Return the `previous` entry for the facts of a scored picture."""
    labels = (LabelScore(FRAMES, float(frames)), LabelScore(TRUNCATED, float(truncated)))
    return ModelScores(PAST_PICTURE, "", "", labels, (), cached=False, skipped="")


def past_verdict(action: str, policy_version: str, rules: tuple[tuple[str, int], ...]) -> ModelScores:
    """Return the `previous` entry for a decision, with (rule, severity) of each matched rule."""
    labels = tuple(LabelScore(rule, severity / 100) for rule, severity in rules)
    return ModelScores(PAST_VERDICT, policy_version, "", labels, (), cached=False, skipped=action)


def past_of(previous: tuple[ModelScores, ...]) -> Past:
    """Return the earlier state from the `previous` of a prediction."""
    outcome, reason, action = "scored", "", None
    rules: tuple[str, ...] = ()
    picture = {FRAMES: 0.0, TRUNCATED: 0.0}
    scores = []
    for entry in previous:
        if entry.model == PAST_OUTCOME:
            outcome, reason = entry.labels[0].label if entry.labels else "rejected", entry.skipped
        elif entry.model == PAST_PICTURE:
            picture |= {label.label: label.value for label in entry.labels}
        elif entry.model == PAST_VERDICT:
            action, rules = entry.skipped, tuple(label.label for label in entry.labels)
        else:
            scores.append(entry)
    subject = Subject(outcome, reason, tuple(scores), int(picture[FRAMES]), bool(picture[TRUNCATED]))
    return Past(subject, action, rules)


def subject_of(prediction: ImagePrediction) -> Subject:
    """Return the input of the rules for a prediction.

    A rescoring by some models keeps the earlier scores of the others. Otherwise it would withdraw flags that depend on
    models which were not run.
    """
    fresh = {entry.model for entry in prediction.scores}
    carried = () if prediction.job_id is None else past_of(prediction.previous).subject.scores
    kept = tuple(_without_renditions(entry) for entry in carried if entry.model not in fresh)
    scores = (*prediction.scores, *(kept if prediction.scores else ()))
    return Subject(
        prediction.outcome,
        prediction.reason,
        scores,
        prediction.frames,
        prediction.truncated,
        prediction.renditions,
    )


def _without_renditions(scores: ModelScores) -> ModelScores:
    """Return earlier scores without rendition indices, which do not refer to the renditions of this prediction."""
    return replace(scores, labels=tuple(replace(label, rendition=0) for label in scores.labels))


def is_publishable(policy: Policy, prediction: ImagePrediction) -> bool:
    """Return whether a product may show the picture: it was scored and the verdict of `policy` is not `block`."""
    # Without the words of the whole verdict, which every outcome would pay for and none would show.
    action = BLOCK if blocks(policy, subject_of(prediction)) else NO_ACTION
    return may_be_published(prediction.outcome, action)


def may_be_published(outcome: str, action: str) -> bool:
    """Return whether an outcome with this verdict may be shown. False for every outcome that is not `scored`."""
    return outcome == "scored" and action != BLOCK


def flag_for(
    policy: Policy, prediction: ImagePrediction, position: Position, decided_at_ms: int
) -> FlaggedImage | None:
    """Return the flag to publish for `prediction`, or None. Deterministic except for `decided_at_ms`."""
    verdict = evaluate(policy, subject_of(prediction))
    if prediction.job_id is None or not prediction.previous:
        if not is_published(verdict.action):
            return None
        return _flag(policy, prediction, position, decided_at_ms, verdict, None)
    past = past_of(prediction.previous)
    action, rules = _past_verdict(policy, past)
    fresh_rules = tuple(sorted(match.rule for match in published(verdict)))
    fresh_action = verdict.action if is_published(verdict.action) else NO_ACTION
    if (fresh_action, fresh_rules) == (action, rules):
        return None
    if fresh_action == NO_ACTION and prediction.outcome != "scored":
        # Only scores withdraw a flag: an image that can no longer be read is not known to be harmless.
        return None
    return _flag(policy, prediction, position, decided_at_ms, verdict, (action, rules))


def _past_verdict(policy: Policy, past: Past) -> tuple[str, tuple[str, ...]]:
    if past.action is not None:
        return past.action, tuple(sorted(past.rules))
    verdict = evaluate(policy, past.subject)
    if not is_published(verdict.action):
        return NO_ACTION, ()
    return verdict.action, tuple(sorted(match.rule for match in published(verdict)))


def published(verdict: Verdict) -> tuple[RuleMatch, ...]:
    """Return the matched rules whose action is more than advice."""
    return tuple(match for match in verdict.matches if is_published(match.action))


def _flag(
    policy: Policy,
    prediction: ImagePrediction,
    position: Position,
    decided_at_ms: int,
    verdict: Verdict,
    before: tuple[str, tuple[str, ...]] | None,
) -> FlaggedImage:
    matches = published(verdict)
    return FlaggedImage(
        flag_id=flag_id_of(prediction.upload_id, policy),
        upload_id=prediction.upload_id,
        bucket=prediction.bucket,
        key=prediction.key,
        version_id=prediction.version_id,
        etag=prediction.etag,
        sha256=prediction.sha256,
        state=FLAGGED if matches else CLEARED,
        action=verdict.action if matches else NO_ACTION,
        severity=max((match.severity for match in matches), default=0),
        rules=matches,
        policy=policy.name,
        policy_version=policy.full_version,
        changed=before is not None,
        previous_action="" if before is None else before[0],
        previous_rules=() if before is None else before[1],
        job_id=prediction.job_id,
        superseded=prediction.superseded,
        dialect=prediction.dialect,
        order_key=prediction.order_key,
        event_time_ms=prediction.event_time_ms,
        scored_at_ms=prediction.scored_at_ms,
        decided_at_ms=decided_at_ms,
        prediction=position,
        event_key=prediction.event_key,
        frames=prediction.frames,
        truncated=prediction.truncated,
        renditions=prediction.renditions,
    )


def flag_id_of(upload_id: str, policy: Policy) -> str:
    """Return the identity of the flag: one for each policy version and upload."""
    parts = ("flag", upload_id, policy.name, policy.full_version)
    return hashlib.sha256("\x00".join(parts).encode()).hexdigest()[:32]
