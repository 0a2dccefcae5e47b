"""What a policy is: values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, assert_never

from app.domain.images import GoneReason, RejectReason

NO_ACTION: Final = "none"
BLOCK: Final = "block"
# Weakest first. `advise` speaks to the seller through the prediction's reasons and flags nothing; the others are flags.
ACTIONS: Final = ("advise", "notify", "review", BLOCK)
_PUBLISHED: Final = frozenset({"notify", "review", "block"})
OUTCOMES: Final = ("scored", "rejected", "gone")
# The stable codes of app/domain/images.py: a rule on any other would never match and nobody would notice.
REASONS: Final = tuple(reason.value for reason in (*RejectReason, *GoneReason))
OPS: Final = (">=", ">", "<=", "<")
# Fields of a scored picture that rules may test besides its scores, with the ops that fit.
FRAMES: Final = "frames"
TRUNCATED: Final = "truncated"
FIELD_OPS: Final[Mapping[str, tuple[str, ...]]] = {FRAMES: (*OPS, "=="), TRUNCATED: ("==",)}


def is_published(action: str) -> bool:
    """Whether a verdict for `action` goes to the flagged topic."""
    return action in _PUBLISHED


def stronger(action: str, other: str) -> bool:
    """Whether `action` outranks `other`; `none` is the weakest."""
    return _rank(action) > _rank(other)


def _rank(action: str) -> int:
    return ACTIONS.index(action) + 1 if action in ACTIONS else 0


@dataclass(frozen=True, slots=True)
class ScoreTest:
    """Holds when the label's score stands in relation `op` to `threshold`; a score that is absent never holds."""

    model: str
    label: str
    op: str
    threshold: float
    line: int


@dataclass(frozen=True, slots=True)
class OutcomeTest:
    """Holds when the outcome is `outcome` and, where `reasons` are given, its reason is one of them."""

    outcome: str
    reasons: tuple[str, ...]
    line: int


@dataclass(frozen=True, slots=True)
class FieldTest:
    """Holds when a field of a scored picture stands in relation `op` to `value`; never without scores.

    `value` is a whole number of frames, or 1 and 0 for true and false.
    """

    field: str
    op: str
    value: int
    line: int

    def value_in_words(self, value: int) -> str:
        """Return a value of the field as the file writes it."""
        return str(bool(value)).lower() if self.field == TRUNCATED else str(value)


@dataclass(frozen=True, slots=True)
class AllOf:
    """Holds when every part holds."""

    parts: tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Holds when at least one part holds."""

    parts: tuple[Condition, ...]


Condition = ScoreTest | OutcomeTest | FieldTest | AllOf | AnyOf


def condition_in_words(condition: Condition) -> str:
    """Return the condition as a person would write it."""
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
    """One rule. `severity` is 1 to 100, for queues to sort by; `line` is where it stands in its file."""

    id: str
    description: str
    action: str
    severity: int
    when: Condition
    line: int


@dataclass(frozen=True, slots=True)
class PolicyCase:
    """One row of the policy's own table test: given this outcome, picture and scores, expect this action.

    `rules` is None where the case does not say which rules must match.
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
    """A policy file, read. `digest` covers everything that decides (not comments, not tests)."""

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
        """Version and digest, as flags carry it: two files that decide differently never share it."""
        return f"{self.version}+{self.digest[:12]}"
