"""The policy that ships begins where the models that ship begin: a model trained anew takes its rules along."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

import pytest

from app.domain.images import GoneReason, RejectReason
from app.domain.policy import Subject, evaluate
from app.domain.policy.rules import AllOf, AnyOf, Condition, ScoreTest
from app.inference.registry import choose_active, find_manifests
from app.pipeline.policies import read_policy
from app.settings import ROOT


def _score_tests(condition: Condition) -> Iterator[ScoreTest]:
    match condition:
        case ScoreTest():
            yield condition
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _score_tests(part)


def test_the_lowest_threshold_on_each_label_is_the_models_own() -> None:
    policy = read_policy(ROOT / "policies" / "default.yaml")
    used: dict[tuple[str, str], list[float]] = defaultdict(list)
    for rule in policy.rules:
        for test in _score_tests(rule.when):
            if test.op == ">=":
                used[test.model, test.label].append(test.threshold)
    manifests = {manifest.name: manifest for manifest in choose_active(find_manifests(ROOT / "models"), None)}
    own = {(model, label): manifests[model].thresholds[label] for model, label in used}
    assert {"nsfw", "embedded_text", "quality"} == {model for model, _ in used}
    assert {place: min(thresholds) for place, thresholds in used.items()} == own


@pytest.mark.parametrize("reason", RejectReason)
def test_whatever_was_not_scored_goes_to_a_person_and_says_why(reason: RejectReason) -> None:
    """Guarantee: the default policy fails closed. A reason that is added later needs a rule, or this test fails."""
    verdict = evaluate(read_policy(ROOT / "policies" / "default.yaml"), Subject("rejected", reason.value, ()))
    if reason is RejectReason.EMPTY:
        assert verdict.action == "none"
        return
    assert verdict.action == "review" and len(verdict.matches) == 1
    assert verdict.matches[0].explanation.startswith(f"review: the outcome is rejected {reason.value} (")
    assert "no model looked at it" in verdict.matches[0].explanation


def test_what_is_gone_shows_nothing() -> None:
    policy = read_policy(ROOT / "policies" / "default.yaml")
    for reason in GoneReason:
        assert evaluate(policy, Subject("gone", reason.value, ())).action == "none"
