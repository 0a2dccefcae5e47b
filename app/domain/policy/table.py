"""Runner of the table test in a policy file."""

from __future__ import annotations

from dataclasses import dataclass

from app.domain.policy.evaluate import Subject, evaluate
from app.domain.policy.rules import Policy, PolicyCase
from schemas.records import LabelScore, ModelScores


@dataclass(frozen=True, slots=True)
class CaseFailure:
    """One failed case: its line, and the actual result in words."""

    case: str
    line: int
    reason: str


def run_cases(policy: Policy) -> tuple[CaseFailure, ...]:
    """Return the failed cases of `policy`; empty if all pass."""
    failures = []
    for case in policy.cases:
        verdict = evaluate(policy, _subject(case))
        matched = {match.rule for match in verdict.matches}
        if verdict.action != case.expect:
            because = "; ".join(match.explanation for match in verdict.matches) or "no rule matched"
            reason = f"expected {case.expect}, got {verdict.action} ({because})"
            failures.append(CaseFailure(case.name, case.line, reason))
        elif case.rules is not None and matched != set(case.rules):
            reason = f"expected rules {_names(set(case.rules))}, matched {_names(matched)}"
            failures.append(CaseFailure(case.name, case.line, reason))
    return tuple(failures)


def _names(rules: set[str]) -> str:
    return ", ".join(sorted(rules)) or "none"


def _subject(case: PolicyCase) -> Subject:
    labels: dict[str, list[LabelScore]] = {}
    for model, label, value in case.scores:
        labels.setdefault(model, []).append(LabelScore(label, value))
    scores = tuple(
        ModelScores(model, "test", "", tuple(values), (), cached=False, skipped="") for model, values in labels.items()
    )
    return Subject(case.outcome, case.reason, scores, case.frames, case.truncated)
