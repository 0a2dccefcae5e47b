"""Decisions of moderators on flagged images: the queue, its order, and the labels that a decision makes."""

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
# Source of labels that come from decisions.
MODERATOR: Final = "moderator"
_AT_LEAST: Final = (">=", ">")
# Reasons of the console that correspond to a model.
_FOUND_BY: Final = {"nudity": "nsfw", "contact_details": "embedded_text", "advertising": "embedded_text"}


@dataclass(frozen=True, slots=True)
class Waiting:
    """One image that waits for a decision. The queue is ordered by `weight` (1 to 100) times the image's age."""

    bucket: str
    key: str
    flag_id: str
    action: str
    weight: int
    since_ms: int


def is_settled(decision: ModerationDecision | None) -> bool:
    """Return whether a decision is final. A skipped or reversed decision leaves the image open."""
    return decision is not None and decision.decision != SKIP


def is_publishable(
    prediction: ImagePrediction, flag: FlaggedImage | None, decision: ModerationDecision | None, *, pending: bool
) -> bool:
    """Return whether a product may show an image with this latest outcome, flag and decision.

    An image that was not scored is never shown, nor is an image with a later upload that is `pending`: its bytes are
    not checked yet. Otherwise the decision of a person overrides the policy.
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
    """Return whether an image with this active flag and this latest decision waits for a moderator."""
    return flag is not None and flag.state == FLAGGED and flag.action in actions and not is_settled(decision)


def waiting(flag: FlaggedImage) -> Waiting:
    """Return the queue entry of a flagged image: severity × score, then older first."""
    return Waiting(flag.bucket, flag.key, flag.flag_id, flag.action, weight(flag), flag.decided_at_ms)


def weight(flag: FlaggedImage) -> int:
    """Return the largest product of severity (0 to 100) and score (0 to 1) of all rules, bounded to 1 … 100.

    The score of a rule is the highest score among its conditions. A rule without scores (a rejected file) counts as 1.
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
    """Return the identity of a decision, derived from the moderator and the client's id of the decision."""
    return hashlib.sha256("\x00".join(("decision", moderator, client_id)).encode()).hexdigest()[:32]


def judged(flag: FlaggedImage, decision: Verb, reason: str, *, reverses: bool) -> tuple[DecidedLabel, ...]:
    """Return the labels that a decision implies, among those that caused the flag.

    Approve: every label is false. Reject: labels are true. With a reason that names a rule (the rule's id, a model that
    it uses, or a reason that corresponds to a model), only the labels of that rule; without a reason, those of all
    rules, with the weight divided among the rules; with any other reason, none. Skip: no labels, unless it reverses a
    decision: then labels of weight 0 withdraw the earlier ones.
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
    """Return the labels for training that a decision makes. Deterministic."""
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
