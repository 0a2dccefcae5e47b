"""Evaluation of a policy on one outcome, with a sentence for each rule that explains the result."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from app.domain.policy.rules import (
    BLOCK,
    FRAMES,
    NO_ACTION,
    AllOf,
    AnyOf,
    Condition,
    FieldTest,
    OutcomeTest,
    Policy,
    Rule,
    ScoreTest,
    stronger,
)
from app.domain.renditions import rendition_in_words
from schemas.records import LabelScore, ModelScores, Rendition, RuleCondition, RuleMatch

# Model name in a flag's conditions for rules about the outcome.
OUTCOME_MODEL: Final = "outcome"
# Model name in a flag's conditions for rules about the picture (number of frames, truncation).
PICTURE_MODEL: Final = "picture"
_NO_MODELS: Final = frozenset({OUTCOME_MODEL, PICTURE_MODEL})
_COMPARE: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    ">": operator.gt,
    "<=": operator.le,
    "<": operator.lt,
    "==": operator.eq,
}
_IN_WORDS: Final[Mapping[str, str]] = {">=": "at or above", ">": "above", "<=": "at or below", "<": "below", "==": ""}


@dataclass(frozen=True, slots=True)
class Subject:
    """Input of the rules: an outcome with its reason, the scores of each model, and facts of the scored picture.

    Labels of `scores` refer to `renditions` by index. `frames` is 0 if unknown: without scores, and in outcomes of
    older releases.
    """

    outcome: str
    reason: str
    scores: tuple[ModelScores, ...]
    frames: int = 0
    truncated: bool = False
    renditions: tuple[Rendition, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """Strongest action of all matched rules (`none` without a match), and the matched rules, strongest first."""

    action: str
    severity: int
    matches: tuple[RuleMatch, ...]


@dataclass(frozen=True, slots=True)
class RuleReport:
    """Result of one rule: whether it matched, and a sentence for people that explains it."""

    rule: str
    action: str
    severity: int
    matched: bool
    explanation: str


@dataclass(frozen=True, slots=True)
class _Checked:
    """One tested condition: whether it held, the values that it compared, and a description in words."""

    held: bool
    conditions: tuple[RuleCondition, ...]
    words: str


_Scores = Mapping[tuple[str, str], tuple[ModelScores, LabelScore]]


def is_score(condition: RuleCondition) -> bool:
    """Return whether a condition of a flag compared a model's score, not the outcome or a fact of the picture."""
    return condition.model not in _NO_MODELS


def evaluate(policy: Policy, subject: Subject) -> Verdict:
    """Return the verdict of `policy` on `subject`. Pure: the same arguments give the same verdict."""
    known = _by_label(subject)
    matches = []
    for rule in policy.rules:
        checked = _check(rule.when, subject, known)
        if checked.held:
            words = _sentence(rule, checked)
            matches.append(RuleMatch(rule.id, rule.action, rule.severity, words, checked.conditions))
    action, severity = NO_ACTION, 0
    for match in matches:
        if stronger(match.action, action):
            action = match.action
        severity = max(severity, match.severity)
    matches.sort(key=lambda match: -match.severity)
    return Verdict(action, severity, tuple(matches))


def blocks(policy: Policy, subject: Subject) -> bool:
    """Return whether the action of the verdict is `block`, which outranks all others; tests only the rules with it."""
    known = _by_label(subject)
    return any(rule.action == BLOCK and _check(rule.when, subject, known).held for rule in policy.rules)


def report_rules(policy: Policy, subject: Subject) -> tuple[RuleReport, ...]:
    """Return every rule of `policy` with its result on `subject`, in the file's order."""
    known = _by_label(subject)
    reports = []
    for rule in policy.rules:
        checked = _check(rule.when, subject, known)
        words = _sentence(rule, checked) if checked.held else f"no match: {checked.words}"
        reports.append(RuleReport(rule.id, rule.action, rule.severity, checked.held, words))
    return tuple(reports)


def _sentence(rule: Rule, checked: _Checked) -> str:
    return f"{rule.action}: {checked.words}" + (f" ({rule.description})" if rule.description else "")


def _by_label(subject: Subject) -> _Scores:
    return {(scores.model, label.label): (scores, label) for scores in subject.scores for label in scores.labels}


def _check(condition: Condition, subject: Subject, known: _Scores) -> _Checked:
    match condition:
        case ScoreTest():
            return _check_score(condition, subject, known)
        case OutcomeTest():
            return _check_outcome(condition, subject)
        case FieldTest():
            return _check_field(condition, subject)
        case AllOf(parts):
            checked = [_check(part, subject, known) for part in parts]
            failed = [part for part in checked if not part.held]
            if failed:
                return _Checked(False, (), " and ".join(part.words for part in failed))
            held = tuple(tested for part in checked for tested in part.conditions)
            return _Checked(True, held, " and ".join(part.words for part in checked))
        case AnyOf(parts):
            checked = [_check(part, subject, known) for part in parts]
            holding = [part for part in checked if part.held]
            if not holding:
                return _Checked(False, (), ", ".join(part.words for part in checked))
            held = tuple(tested for part in holding for tested in part.conditions)
            return _Checked(True, held, " and ".join(part.words for part in holding))
        case _:
            assert_never(condition)


def _check_score(test: ScoreTest, subject: Subject, known: _Scores) -> _Checked:
    entry = known.get((test.model, test.label))
    if entry is None:
        return _Checked(False, (), f"{test.model} {test.label} has no score")
    scores, label = entry
    value = label.value
    held = _COMPARE[test.op](value, test.threshold)
    words = (
        f"{test.model} {test.label} {value:.3f} is {'' if held else 'not '}{_IN_WORDS[test.op]} {test.threshold:g}"
        f" (version {scores.version}{', cached' if scores.cached else ''}{', gate only' if scores.skipped else ''}"
        f"{_seen_in(label, subject)})"
    )
    condition = RuleCondition(
        test.model,
        scores.version,
        test.label,
        value,
        test.op,
        test.threshold,
        cached=scores.cached,
        rendition=label.rendition,
    )
    return _Checked(held, (condition,), words)


def _seen_in(label: LabelScore, subject: Subject) -> str:
    """Return a description of the rendition that gave a value; empty if there is only one rendition."""
    if len(subject.renditions) < 2 or label.rendition >= len(subject.renditions):
        return ""
    return f"; seen in {rendition_in_words(subject.renditions[label.rendition])}"


def _check_outcome(test: OutcomeTest, subject: Subject) -> _Checked:
    held = subject.outcome == test.outcome and (not test.reasons or subject.reason in test.reasons)
    label = subject.outcome + (f" {subject.reason}" if subject.reason else "")
    wanted = test.outcome + (f" {' or '.join(test.reasons)}" if test.reasons else "")
    words = f"the outcome is {label}" if held else f"the outcome is {label}, not {wanted}"
    return _Checked(held, (RuleCondition(OUTCOME_MODEL, "", label, 1.0, "is", 1.0, cached=False),), words)


def _check_field(test: FieldTest, subject: Subject) -> _Checked:
    value = subject.frames if test.field == FRAMES else int(subject.truncated)
    if subject.outcome != "scored" or (test.field == FRAMES and value == 0):
        return _Checked(False, (), f"{test.field} is not known")
    held = _COMPARE[test.op](value, test.value)
    relation = f"{_IN_WORDS[test.op]} {test.value_in_words(test.value)}".strip()
    if test.field == FRAMES:
        words = f"the number of frames {value} is {'' if held else 'not '}{relation}"
    else:
        words = f"the file is {'' if subject.truncated else 'not '}truncated"
    condition = RuleCondition(PICTURE_MODEL, "", test.field, float(value), test.op, float(test.value), cached=False)
    return _Checked(held, (condition,), words)
