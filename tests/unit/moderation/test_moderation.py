"""What waits for moderators, in which order, and what their decisions say of labels."""

from __future__ import annotations

import dataclasses

import pytest

from app.domain.moderation import decision_id, is_publishable, judged, labels_of, waits, weight
from app.pipeline.label import LabelProcessor
from app.ports.records import Output
from app.systems.registry.avro import Codec
from schemas.records import DeadLetter, FlaggedImage, Label, RuleCondition, RuleMatch
from tests.support.manual_clock import ManualClock
from tests.support.outcomes import decision_of, flag_of, prediction, source_record

ACTIONS = ("notify", "review", "block")


def rule(name: str, severity: int, *conditions: tuple[str, str, float, str]) -> RuleMatch:
    found = tuple(RuleCondition(model, "2", label, value, op, 0.5, False) for model, label, value, op in conditions)
    return RuleMatch(name, "review", severity, "", found)


def flag(*rules: RuleMatch) -> FlaggedImage:
    return flag_of(prediction(), rules=rules, severity=max(one.severity for one in rules))


def test_a_flag_waits_until_somebody_decides_and_again_when_that_is_taken_back() -> None:
    found = flag_of(prediction())
    assert waits(found, None, ACTIONS)
    assert not waits(None, None, ACTIONS)
    assert not waits(found, None, ("notify",))
    assert not waits(dataclasses.replace(found, state="cleared"), None, ACTIONS)
    assert not waits(found, decision_of(found, "approve"), ACTIONS)
    assert not waits(found, decision_of(found, "reject"), ACTIONS)
    assert waits(found, decision_of(found, "skip"), ACTIONS)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        ((rule("a", 90, ("nsfw", "nsfw", 0.97, ">=")),), 87),
        ((rule("a", 60, ("nsfw", "nsfw", 0.8, ">="), ("nsfw", "nsfw", 0.8, "<")),), 48),
        ((rule("a", 60, ("nsfw", "nsfw", 0.5, ">=")), rule("b", 50)), 50),
        ((rule("a", 20, ("text", "text", 0.4, ">="), ("text", "text", 0.9, ">")),), 18),
        ((rule("a", 30, ("picture", "frames", 500.0, ">")),), 30),
        ((rule("a", 60, ("picture", "frames", 500.0, ">"), ("nsfw", "nsfw", 0.5, ">=")),), 30),
        ((rule("a", 0, ("text", "text", 0.4, ">=")),), 1),
    ],
)
def test_weight_is_severity_times_score_of_the_weightiest_rule(rules: tuple[RuleMatch, ...], expected: int) -> None:
    assert weight(flag(*rules)) == expected


BOTH = flag(
    rule("nude", 60, ("nsfw", "nsfw", 0.8, ">="), ("nsfw", "nsfw", 0.8, "<")),
    rule("text", 20, ("embedded_text", "text", 0.9, ">=")),
)


def said(decision: str, reason: str = "", *, reverses: bool = False) -> dict[str, tuple[float, float]]:
    found = judged(BOTH, decision, reason, reverses=reverses)  # type: ignore[arg-type]  # what mypy knows as a literal
    return {one.model: (one.value, one.weight) for one in found}


def test_what_a_decision_says_of_labels() -> None:
    assert said("approve") == {"nsfw": (0, 1), "embedded_text": (0, 1)}
    assert said("reject") == {"nsfw": (1, 0.5), "embedded_text": (1, 0.5)}
    assert said("reject", "text") == {"embedded_text": (1, 1)}
    assert said("reject", "nsfw") == said("reject", "nudity") == {"nsfw": (1, 1)}
    assert said("reject", "advertising") == {"embedded_text": (1, 1)}
    assert said("reject", "counterfeit") == {}
    assert said("skip") == {}
    assert said("skip", reverses=True) == {"nsfw": (0, 0), "embedded_text": (0, 0)}
    (one,) = judged(flag_of(prediction()), "reject", "", reverses=False)
    assert (one.model, one.version, one.label, one.score) == ("nsfw", "1", "nsfw", 0.97)


def test_a_decision_has_one_identity_for_its_moderator() -> None:
    assert decision_id("ana", "1") == decision_id("ana", "1") != decision_id("ben", "1")


async def test_a_decision_becomes_its_labels_and_the_same_ones_again() -> None:
    codec, decision = Codec(), decision_of(BOTH)
    processor = LabelProcessor(codec, ManualClock())
    record = source_record(codec.encode(decision), topic="moderation.decisions.v1")
    done = await processor.process(record)
    assert done == await processor.process(record)
    labels = [output.record for output in done.outputs]
    assert labels == list(labels_of(decision)) and len(labels) == 2
    first = labels[0]
    assert isinstance(first, Label)
    assert (first.model, first.value, first.source, first.author, first.weight) == ("nsfw", 1, "moderator", "ana", 0.5)
    assert {output.topic for output in done.outputs} == {"labels.v1"}
    assert {output.key for output in done.outputs} == {b"images/shop/photo-0001.jpg"}


async def test_what_is_no_decision_is_a_dead_letter() -> None:
    codec = Codec()
    done = await LabelProcessor(codec, ManualClock()).process(source_record(codec.encode(prediction())))
    assert done.dead_letters == 1
    assert isinstance(done.outputs[0], Output) and isinstance(done.outputs[0].record, DeadLetter)


def test_a_decision_says_nothing_of_facts_of_the_picture() -> None:
    found = flag(rule("a", 60, ("picture", "frames", 500.0, ">"), ("nsfw", "nsfw", 0.9, ">=")))
    assert [one.model for one in judged(found, "approve", "", reverses=False)] == ["nsfw"]
    assert [one.model for one in judged(found, "reject", "", reverses=False)] == ["nsfw"]


@pytest.mark.parametrize(
    ("outcome", "blocked", "verb", "pending", "expected"),
    [
        ("scored", False, None, False, True),
        ("scored", False, "skip", False, True),
        ("scored", False, "approve", False, True),
        ("scored", False, "reject", False, False),
        ("scored", True, None, False, False),
        ("scored", True, "skip", False, False),
        ("scored", True, "approve", False, True),
        ("scored", True, "reject", False, False),
        ("scored", False, None, True, False),
        ("scored", True, "approve", True, False),
        ("rejected", False, None, False, False),
        ("rejected", False, "approve", False, False),
        ("gone", False, "approve", False, False),
    ],
)
def test_what_a_product_may_show(outcome: str, blocked: bool, verb: str | None, pending: bool, expected: bool) -> None:
    """The table of docs/api.md. Guarantee: no word of a person makes a picture publishable that nobody scored."""
    found = prediction(outcome=outcome, publishable=outcome == "scored" and not blocked)
    flagged = flag_of(found)
    decision = None if verb is None else decision_of(flagged, verb)  # type: ignore[arg-type]  # all of them are verbs
    assert is_publishable(found, flagged if blocked else None, decision, pending=pending) is expected


def test_a_flag_of_a_newer_policy_blocks_what_score_let_through() -> None:
    found = prediction(publishable=True)
    assert not is_publishable(found, flag_of(found, action="block"), None, pending=False)
    assert is_publishable(found, flag_of(found, action="review"), None, pending=False)
    assert is_publishable(found, flag_of(found, action="none", state="cleared"), None, pending=False)
    assert not is_publishable(prediction(), None, None, pending=False), "an older release did not say"
