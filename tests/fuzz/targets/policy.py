"""Policies: a wrong one is refused with PolicyError, whatever is in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.domain.policy.parse import parse_policy
from app.errors import PolicyError
from app.settings import ROOT
from tests.fuzz.engine import Answer, Broken, Check, Target
from tests.fuzz.texts import YAML

# Small: the YAML parser takes 20 ms for the default policy, and each kind of rule and test is here.
_SMALL: Final = b"""\
policy: small
version: 3
description: each kind of condition
rules:
  - id: nsfw
    description: nudity
    action: block
    severity: 90
    when: {model: nsfw, label: nsfw, op: ">=", threshold: 0.9}
  - id: both
    action: review
    severity: 50
    when:
      all:
        - {model: a, label: b, op: "<", threshold: 0.5}
        - any:
            - outcome: rejected
              reasons: [undecodable, truncated]
            - {field: frames, op: ">", value: 20}
            - {field: truncated, op: "==", value: true}
tests:
  - name: nude
    scores: {nsfw: {nsfw: 0.95}}
    frames: 3
    truncated: true
    expect: block
    rules: [nsfw]
  - name: broken
    outcome: rejected
    reason: undecodable
    expect: review
"""


def check(content: bytes) -> Answer:
    """Check the promises of `parse_policy` on one text."""
    text = content.decode("utf-8", "replace")
    try:
        policy = parse_policy(text, "fuzz.yaml")
    except PolicyError as error:
        if not str(error).startswith("fuzz.yaml, line "):
            raise Broken("a refusal without a line") from error
        return Answer(f"refused {str(error).partition(': ')[2]}")
    if parse_policy(text, "fuzz.yaml") != policy:
        raise Broken("equal texts give different policies")
    return Answer(f"{len(policy.rules)} rules {len(policy.cases)} tests")


def _seeds(every: int) -> list[bytes]:
    return [_SMALL, *([(ROOT / "policies" / "default.yaml").read_bytes()] if every == 1 else [])]


@contextmanager
def _open() -> Iterator[Check]:
    yield check


POLICY: Final = Target("policy", _seeds, _open, YAML, cpu_seconds=2.0, max_bytes=2048)
