"""Values of a policy: rules, conditions, test cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from app.domain.images import GoneReason, RejectReason

NO_ACTION: Final = "none"
BLOCK: Final = "block"
# Weakest first. `advise` makes no flag: the seller sees it in the prediction's reasons. The others make flags.
ACTIONS: Final = ("advise", "notify", "review", BLOCK)
_PUBLISHED: Final = frozenset({"notify", "review", "block"})
OUTCOMES: Final = ("scored", "rejected", "gone")
# The stable codes of app/domain/images.py. A rule on any other code would never match, unnoticed.
REASONS: Final = tuple(reason.value for reason in (*RejectReason, *GoneReason))
OPS: Final = (">=", ">", "<=", "<")
# Fields of a scored picture that rules may test besides its scores, with the ops that fit.
FRAMES: Final = "frames"
TRUNCATED: Final = "truncated"
FIELD_OPS: Final[Mapping[str, tuple[str, ...]]] = {FRAMES: (*OPS, "=="), TRUNCATED: ("==",)}


def is_published(action: str) -> bool:
    """Return whether a verdict with `action` is published on the topic of flags."""
    return action in _PUBLISHED


def stronger(action: str, other: str) -> bool:
    """Return whether `action` outranks `other`; `none` is the weakest."""
    return _rank(action) > _rank(other)


def _rank(action: str) -> int:
    return ACTIONS.index(action) + 1 if action in ACTIONS else 0


@dataclass(frozen=True, slots=True)
class ScoreTest:
    """Condition on a label's score: `op` compares it with `threshold`. False if the score is absent."""

    model: str
    label: str
    op: str
    threshold: float
    line: int


@dataclass(frozen=True, slots=True)
class OutcomeTest:
    """Condition on the outcome and, if `reasons` is not empty, on its reason, which must be one of them."""

    outcome: str
    reasons: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class FieldTest:
    """Condition on a field of a scored picture: `op` compares it with `value`. False without scores.

    `value` is a number of frames, or 1 and 0 for true and false.
    """

    field: str
    op: str
    value: int
    line: int

    def value_in_words(self, value: int) -> str:
        """Return a value of the field as written in a policy file."""
        return str(bool(value)).lower() if self.field == TRUNCATED else str(value)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Condition that is true if every part is true."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Condition that is true if at least one part is true."""

    parts: tuple[Condition, ...]


Condition = ScoreTest | OutcomeTest | FieldTest | AllOf | AnyOf


def condition_in_words(condition: Condition) -> str:
    """Return the condition as text for people."""
    match condition:
        case ScoreTest(model, label, op, threshold, _):
            return f"{model} {label} {op} {threshold:g}"
        case OutcomeTest(outcome, reasons, _):
            return outcome + (f" ({' or '.join(reasons)})" if reasons else "")
        case FieldTest(field, op, value, _):
            return f"{field} {op} {condition.value_in_words(value)}"
        case AllOf(parts):
            return "(" + " and ".join(condition_in_words(part) for part in parts) + ")"
        case AnyOf(parts):
            return "(" + " or ".join(condition_in_words(part) for part in parts) + ")"
        case _:
            assert_never(condition)


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. `severity` (1 to 100) orders queues; `line` is the rule's line in the file."""

    id: str
    description: str
    action: str
    severity: int
    when: Condition
    line: int


@dataclass(frozen=True, slots=True)
class PolicyCase:
    """One row of a policy's table test: the expected action for an outcome, a picture and scores.

    `rules`: the rules that must match; None if the case does not list them.
    """

    name: str
    outcome: str
    reason: str
    scores: tuple[tuple[str, str, float], ...]
    expect: str
    rules: tuple[str, ...] | None
    line: int
    frames: int = 1
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """A parsed policy file. `digest` covers everything that affects decisions (no comments, no tests)."""

    name: str
    version: str
    digest: str
    description: str
    rules: tuple[Rule, ...]
    cases: tuple[PolicyCase, ...]
    source: str
    text: str

    @property
    def full_version(self) -> str:
        """Version and digest, as in flags. Files with different decisions never have the same one."""
        return f"{self.version}+{self.digest[:12]}"
