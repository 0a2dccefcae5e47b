"""What people decide of flagged images: which of them wait, in which order, and what a decision says of labels."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, TypeGuard

from app.domain.outcomes import SCORED
from app.domain.policy.decide import FLAGGED
from app.domain.policy.evaluate import is_score
from app.domain.policy.rules import BLOCK
from schemas.records import DecidedLabel, FlaggedImage, ImagePrediction, Label, ModerationDecision, RuleMatch

APPROVE: Final = "approve"
REJECT: Final = "reject"
SKIP: Final = "skip"
Verb = Literal["approve", "reject", "skip"]
# The source of labels that decisions make.
MODERATOR: Final = "moderator"
_AT_LEAST: Final = (">=", ">")
# Reasons of the console that say what a model is there to find.
_FOUND_BY: Final = {"nudity": "nsfw", "contact_details": "embedded_text", "advertising": "embedded_text"}


@dataclass(frozen=True, slots=True)
class Waiting:
    """One image that waits for a decision. `weight`, 1 to 100, times its age is its place in the queue."""

    bucket: str
    key: str
    flag_id: str
    action: str
    weight: int
    since_ms: int


def is_settled(decision: ModerationDecision | None) -> bool:
    """Whether nobody needs to look any more: skipping, and taking a decision back, leave the image open."""
    return decision is not None and decision.decision != SKIP


def is_publishable(
    prediction: ImagePrediction, flag: FlaggedImage | None, decision: ModerationDecision | None, *, pending: bool
) -> bool:
    """Whether a product may show an image whose latest outcome, flag and decision these are.

    What was not scored is never shown, nor is an image while a later upload of it is `pending`: nobody has looked at
    those bytes. Beyond that a person's word goes before the policy's.
    """
    if prediction.outcome != SCORED or pending:
        return False
    if decision is not None and is_settled(decision):
        return decision.decision == APPROVE
    blocked = flag is not None and flag.state == FLAGGED and flag.action == BLOCK
    return prediction.publishable and not blocked


def waits(
    flag: FlaggedImage | None, decision: ModerationDecision | None, actions: Collection[str]
) -> TypeGuard[FlaggedImage]:
    """Whether an image with this flag in force and this latest decision on it waits for a moderator."""
    return flag is not None and flag.state == FLAGGED and flag.action in actions and not is_settled(decision)


def waiting(flag: FlaggedImage) -> Waiting:
    """Return the place of a flagged image in the queue: severity × score, then older first."""
    return Waiting(flag.bucket, flag.key, flag.flag_id, flag.action, weight(flag), flag.decided_at_ms)


def weight(flag: FlaggedImage) -> int:
    """Return severity (0 to 100) × score (0 to 1) of the weightiest rule, 1 to 100.

    The score of a rule is the highest that one of its conditions found; a rule without scores (a rejected file) counts
    as certain.
    """
    weights = (
        rule.severity
        * max(
            (condition.value for condition in rule.conditions if condition.op in _AT_LEAST and is_score(condition)),
            default=1.0,
        )
        for rule in flag.rules
    )
    return min(100, max(1, round(max(weights, default=0.0))))


def decision_id(moderator: str, client_id: str) -> str:
    """Return the identity of the decision that a client names `client_id`."""
    return hashlib.sha256("\x00".join(("decision", moderator, client_id)).encode()).hexdigest()[:32]


def judged(flag: FlaggedImage, decision: Verb, reason: str, *, reverses: bool) -> tuple[DecidedLabel, ...]:
    """Return what a decision says of the labels that brought the image before the moderator.

    Approving says that none is true of the picture. Rejecting says that they are: for the reason of a rule (its id, a
    model that it asks, or a reason that stands for one) those of this rule alone; for no reason those of all rules,
    each with its share of the weight; for a reason that no rule has it says nothing of them. Skipping says nothing,
    unless it takes a decision back: then it withdraws.
    """
    if decision == SKIP and not reverses:
        return ()
    rules = list(flag.rules)
    if decision == REJECT and reason:
        rules = [rule for rule in rules if rule.rule == reason or _asks(rule, _FOUND_BY.get(reason, reason))]
    share = {APPROVE: 1.0, REJECT: 1.0 / max(1, len(rules)), SKIP: 0.0}[decision]
    labels: dict[tuple[str, str], DecidedLabel] = {}
    for rule in rules:
        for condition in rule.conditions:
            if condition.op in _AT_LEAST and is_score(condition):
                value = 1.0 if decision == REJECT else 0.0
                labels.setdefault(
                    (condition.model, condition.label),
                    DecidedLabel(condition.model, condition.version, condition.label, value, condition.value, share),
                )
    return tuple(labels.values())


def _asks(rule: RuleMatch, model: str) -> bool:
    return any(condition.model == model for condition in rule.conditions)


def labels_of(decision: ModerationDecision) -> tuple[Label, ...]:
    """Return the labels for training that a decision makes; the same decision makes the same ones."""
    return tuple(
        Label(
            label_id=_label_id(decision, label),
            bucket=decision.bucket,
            key=decision.key,
            version_id=decision.version_id,
            etag=decision.etag,
            sha256=decision.sha256,
            upload_id=decision.upload_id,
            model=label.model,
            version=label.version,
            label=label.label,
            value=label.value,
            score=label.score,
            source=MODERATOR,
            author=decision.moderator,
            reason=decision.reason,
            weight=label.weight,
            decision_id=decision.decision_id,
            reverses=decision.reverses,
            labelled_at_ms=decision.decided_at_ms,
        )
        for label in decision.labels
    )


def _label_id(decision: ModerationDecision, label: DecidedLabel) -> str:
    identity = "\x00".join(("label", decision.decision_id, label.model, label.label))
    return hashlib.sha256(identity.encode()).hexdigest()[:32]
