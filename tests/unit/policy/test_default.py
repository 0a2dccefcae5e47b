"""The policy that ships begins where the models that ship begin: a model trained anew takes its rules along."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from app.domain.policy.rules import AllOf, AnyOf, Condition, ScoreTest
from app.inference.registry import choose_active, find_manifests
from app.services.policies import read_policy
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
