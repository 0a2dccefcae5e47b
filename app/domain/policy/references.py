"""Check that the models and labels of a policy exist."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Mapping
from typing import assert_never

from app.domain.policy.rules import AllOf, AnyOf, Condition, FieldTest, OutcomeTest, Policy, ScoreTest
from app.errors import PolicyError


def check_references(policy: Policy, labels_by_model: Mapping[str, Collection[str]]) -> None:
    """Raise PolicyError (file, line, reason) for the first model or label that is not in `labels_by_model`.

    A rule on an unknown label would never match, and the error would stay unnoticed.
    """
    for rule in policy.rules:
        for test in _score_tests(rule.when):
            where = f"{policy.source}, line {test.line}: rule {rule.id!r}"
            if test.model not in labels_by_model:
                raise PolicyError(f"{where}: there is no model {test.model!r}{_near(test.model, labels_by_model)}")
            labels = labels_by_model[test.model]
            if test.label not in labels:
                raise PolicyError(f"{where}: model {test.model} has no label {test.label!r}{_near(test.label, labels)}")


def _near(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(sorted(known))}"


def _score_tests(condition: Condition) -> Iterator[ScoreTest]:
    match condition:
        case ScoreTest():
            yield condition
        case OutcomeTest() | FieldTest():
            return
        case AllOf(parts) | AnyOf(parts):
            for part in parts:
                yield from _score_tests(part)
        case _:
            assert_never(condition)
