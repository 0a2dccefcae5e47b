from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.policy import (
    Policy,
    Subject,
    evaluate,
    flag_for,
    is_publishable,
    parse_policy,
    past_of,
    past_outcome,
    past_picture,
    past_verdict,
    report_rules,
)
from schemas.records import (
    FlaggedImage,
    ImagePrediction,
    LabelScore,
    ModelScores,
    Position,
    Rendition,
    RuleCondition,
)
from tests.support.outcomes import prediction, scores

POLICY = parse_policy(
    """
policy: shop
version: "7"
rules:
  - {id: block-nudity, action: block, severity: 90, when: {model: nsfw, label: nsfw, op: ">=", threshold: 0.8}}
  - id: maybe-nudity
    action: review
    severity: 60
    when:
      all:
        - {model: nsfw, label: nsfw, op: ">=", threshold: 0.5}
        - {model: nsfw, label: nsfw, op: "<", threshold: 0.8}
  - {id: text, action: notify, severity: 20, when: {model: embedded_text, label: text, op: ">", threshold: 0.5}}
  - {id: hostile, action: review, severity: 50, when: {outcome: rejected, reasons: [too_complex]}}
  - id: poor
    action: advise
    severity: 5
    when:
      any:
        - {model: quality, label: blurry, op: ">=", threshold: 0.5}
        - {model: quality, label: dark, op: ">=", threshold: 0.5}
""",
    "shop.yaml",
)
AT = Position("image.predictions.v1", 3, 17)


def flag(outcome: ImagePrediction, policy: Policy = POLICY) -> FlaggedImage | None:
    return flag_for(policy, outcome, AT, 1_000)


def rescored(now: tuple[ModelScores, ...], before: tuple[ModelScores, ...], **changes: object) -> ImagePrediction:
    return prediction(scores=now, previous=before, job_id="job-1", **changes)


def test_a_flag_explains_itself() -> None:
    found = flag(
        prediction(scores=(scores("nsfw", nsfw=0.93, cached=True, version="1.2"), scores("quality", dark=0.9)))
    )
    assert found is not None
    assert (found.state, found.action, found.severity) == ("flagged", "block", 90)
    assert (found.policy, found.policy_version) == ("shop", POLICY.full_version)
    (match,) = found.rules
    assert match.conditions == (RuleCondition("nsfw", "1.2", "nsfw", 0.93, ">=", 0.8, cached=True),)
    assert match.explanation == "block: nsfw nsfw 0.930 is at or above 0.8 (version 1.2, cached)"
    assert found.prediction == AT
    assert not found.changed


def test_an_ordinary_image_is_no_flag() -> None:
    assert flag(prediction()) is None


def test_advice_is_no_flag() -> None:
    outcome = prediction(scores=(scores("quality", blurry=0.9),))
    assert flag(outcome) is None
    assert evaluate(POLICY, Subject("scored", "", outcome.scores)).action == "advise"


def test_the_strongest_action_wins_and_all_rules_are_named() -> None:
    found = flag(prediction(scores=(scores("nsfw", nsfw=0.9), scores("embedded_text", text=0.9))))
    assert found is not None
    assert found.action == "block"
    assert [match.rule for match in found.rules] == ["block-nudity", "text"]


@pytest.mark.parametrize(
    ("value", "action"), [(0.499, "none"), (0.5, "review"), (0.799, "review"), (0.8, "block"), (1.0, "block")]
)
def test_bands_meet_without_gap_or_overlap(value: float, action: str) -> None:
    verdict = evaluate(POLICY, Subject("scored", "", (scores("nsfw", nsfw=value),)))
    assert verdict.action == action
    assert len(verdict.matches) == (0 if action == "none" else 1)


def test_a_rejected_hostile_file_is_reviewed() -> None:
    found = flag(prediction(outcome="rejected", reason="too_complex", scores=()))
    assert found is not None
    assert found.rules[0].explanation == "review: the outcome is rejected too_complex"
    assert flag(prediction(outcome="rejected", reason="undecodable", scores=())) is None


def test_a_model_that_gave_no_score_matches_nothing() -> None:
    assert evaluate(POLICY, Subject("scored", "", ())).action == "none"


def test_the_same_prediction_gives_the_same_flag_and_another_policy_another_id() -> None:
    outcome = prediction(scores=(scores("nsfw", nsfw=0.93),))
    first, again = flag(outcome), flag(outcome)
    assert first is not None and first == again
    other = flag(outcome, dataclasses.replace(POLICY, digest="f" * 64))
    assert other is not None and other.flag_id != first.flag_id


def test_a_superseded_upload_is_flagged_as_such() -> None:
    found = flag(prediction(scores=(scores("nsfw", nsfw=0.93),), superseded=True))
    assert found is not None and found.superseded


# --- rescoring ---

CLEAN, NUDE, MAYBE = (scores("nsfw", nsfw=0.1),), (scores("nsfw", nsfw=0.9),), (scores("nsfw", nsfw=0.6),)


def test_an_unchanged_verdict_is_not_published_again() -> None:
    assert flag(rescored(NUDE, (scores("nsfw", nsfw=0.85),))) is None
    assert flag(rescored(CLEAN, CLEAN)) is None


def test_a_new_flag_of_a_rescoring_is_marked_changed() -> None:
    found = flag(rescored(NUDE, CLEAN))
    assert found is not None
    assert (found.state, found.changed, found.previous_action, found.previous_rules) == ("flagged", True, "none", ())
    assert found.job_id == "job-1"


def test_a_weaker_verdict_is_published_with_the_one_before() -> None:
    found = flag(rescored(MAYBE, NUDE))
    assert found is not None
    assert (found.state, found.action, found.previous_action) == ("flagged", "review", "block")
    assert found.previous_rules == ("block-nudity",)


def test_a_flag_taken_back_is_cleared() -> None:
    found = flag(rescored(CLEAN, NUDE))
    assert found is not None
    assert (found.state, found.action, found.severity, found.rules) == ("cleared", "none", 0, ())
    assert (found.changed, found.previous_action) == (True, "block")


@pytest.mark.parametrize(("outcome", "reason"), [("gone", "gone"), ("rejected", "undecodable")])
def test_only_scores_take_a_flag_back(outcome: str, reason: str) -> None:
    assert flag(rescored((), NUDE, outcome=outcome, reason=reason)) is None


def test_a_rescoring_by_one_model_leaves_the_flags_of_the_others() -> None:
    before = (*NUDE, scores("embedded_text", text=0.9))
    assert flag(rescored((scores("embedded_text", text=0.8),), before)) is None
    found = flag(rescored((scores("embedded_text", text=0.1),), before))
    assert found is not None
    assert (found.action, [match.rule for match in found.rules]) == ("block", ["block-nudity"])


def test_what_was_decided_then_counts_more_than_what_this_policy_would_have_decided() -> None:
    never_flagged = (*NUDE, past_verdict("none", "6+0", ()))
    found = flag(rescored(NUDE, never_flagged))
    assert found is not None
    assert (found.action, found.previous_action) == ("block", "none")
    flagged_alike = (*CLEAN, past_verdict("block", "6+0", (("block-nudity", 90),)))
    assert flag(rescored(NUDE, flagged_alike)) is None


def test_a_rejected_past_is_remembered() -> None:
    before = (past_outcome("rejected", "too_complex"),)
    assert past_of(before).subject == Subject("rejected", "too_complex", ())
    assert flag(rescored((), before, outcome="rejected", reason="too_complex")) is None
    found = flag(rescored(CLEAN, before))
    assert found is not None
    assert (found.state, found.previous_action, found.previous_rules) == ("cleared", "review", ("hostile",))


def test_a_first_outcome_by_a_job_is_no_change() -> None:
    found = flag(rescored(NUDE, ()))
    assert found is not None and not found.changed


# --- in words ---


def test_every_rule_is_reported_with_its_reason() -> None:
    reports = {report.rule: report for report in report_rules(POLICY, Subject("scored", "", MAYBE))}
    assert list(reports) == ["block-nudity", "maybe-nudity", "text", "hostile", "poor"]
    assert reports["block-nudity"].explanation == "no match: nsfw nsfw 0.600 is not at or above 0.8 (version 1)"
    assert reports["maybe-nudity"].matched
    assert "0.600 is at or above 0.5" in reports["maybe-nudity"].explanation
    assert reports["text"].explanation == "no match: embedded_text text has no score"
    assert reports["hostile"].explanation == "no match: the outcome is scored, not rejected too_complex"


# --- frames, truncation, renditions ---

PICTURES = parse_policy(
    """
policy: pictures
version: "1"
rules:
  - {id: long, action: review, severity: 30, when: {field: frames, op: ">", value: 100}}
  - {id: cut-off, action: notify, severity: 10, when: {field: truncated, op: "==", value: true}}
  - {id: nude, action: block, severity: 90, when: {model: nsfw, label: nsfw, op: ">=", threshold: 0.8}}
""",
    "pictures.yaml",
)
LOOKED_AT = (Rendition(0, 0, 0, 1, 1, ""), Rendition(41, 0.5, 0, 1, 0.25, "dark"))


def test_frames_and_truncation_flag_in_words() -> None:
    found = flag(prediction(frames=101, truncated=True), PICTURES)
    assert found is not None and (found.frames, found.truncated) == (101, True)
    assert [match.explanation for match in found.rules] == [
        "review: the number of frames 101 is above 100",
        "notify: the file is truncated",
    ]
    assert found.rules[0].conditions == (RuleCondition("picture", "", "frames", 101, ">", 100, cached=False),)
    assert flag(prediction(frames=100), PICTURES) is None
    reports = [report.explanation for report in report_rules(PICTURES, Subject("scored", "", (), 100))]
    assert reports[:2] == [
        "no match: the number of frames 100 is not above 100",
        "no match: the file is not truncated",
    ]


def test_fields_of_what_was_not_scored_or_not_counted_never_hold() -> None:
    for subject in (Subject("rejected", "undecodable", (), 500, True), Subject("gone", "deleted", (), 500, True)):
        assert evaluate(PICTURES, subject).action == "none"
        assert report_rules(PICTURES, subject)[0].explanation == "no match: frames is not known"
    few = parse_policy(
        "policy: p\nversion: 1\nrules:\n  - id: few\n    action: block\n    severity: 1\n"
        '    when: {field: frames, op: "<", value: 3}\n',
        "p",
    )
    assert evaluate(few, Subject("scored", "", (), 2)).action == "block"
    assert evaluate(few, Subject("scored", "", (), 0)).action == "none", "an outcome of an older release"


def test_a_flag_names_the_rendition_that_gave_the_score() -> None:
    seen = ModelScores("nsfw", "1", "p1", (LabelScore("nsfw", 0.9, 1),), (), False, "")
    found = flag(prediction(scores=(seen,), frames=96, renditions=LOOKED_AT), PICTURES)
    assert found is not None and found.renditions == LOOKED_AT
    (match,) = found.rules
    assert found.renditions[match.conditions[0].rendition] == LOOKED_AT[1]
    assert match.explanation == (
        "block: nsfw nsfw 0.900 is at or above 0.8"
        " (version 1; seen in frame 42, 50-100 % across and 0-25 % down, on dark ground)"
    )


def test_a_rescoring_compares_with_frames_and_truncation_of_then() -> None:
    long = past_picture(101, False)
    assert past_of((*CLEAN, long)).subject == Subject("scored", "", CLEAN, 101, False)
    assert flag(rescored(CLEAN, (*CLEAN, long), frames=101), PICTURES) is None, "flagged as before"
    cleared = flag(rescored(CLEAN, (*CLEAN, long), frames=100), PICTURES)
    assert cleared is not None and (cleared.state, cleared.previous_rules) == ("cleared", ("long",))
    new = flag(rescored(CLEAN, CLEAN, frames=101), PICTURES)
    assert new is not None and new.previous_action == "none", "then, frames were not counted"


def test_scores_of_then_name_no_rendition_of_today() -> None:
    seen = ModelScores("nsfw", "1", "p1", (LabelScore("nsfw", 0.9, 7),), (), False, "")
    found = flag(rescored((scores("quality", dark=0.1),), (seen,), frames=1, renditions=LOOKED_AT[:1]), PICTURES)
    assert found is None, "as before"
    changed = flag(rescored((scores("quality", dark=0.1),), (seen,), frames=200, renditions=LOOKED_AT), PICTURES)
    assert changed is not None
    assert {one.rendition for match in changed.rules for one in match.conditions} == {0}


@pytest.mark.parametrize(
    ("changes", "publishable"),
    [
        ({"scores": CLEAN}, True),
        ({"scores": MAYBE}, True),
        ({"scores": NUDE}, False),
        ({"scores": (), "outcome": "rejected", "reason": "undecodable"}, False),
        ({"scores": (), "outcome": "rejected", "reason": "empty"}, False),
        ({"scores": (), "outcome": "gone", "reason": "deleted"}, False),
    ],
)
def test_publishable_is_what_was_scored_and_is_not_blocked(changes: dict[str, object], publishable: bool) -> None:
    assert is_publishable(POLICY, prediction(**changes)) is publishable


@given(st.lists(st.sampled_from([0.0, 0.4, 0.5, 0.79, 0.8, 1.0]), min_size=3, max_size=3))
def test_publishable_agrees_with_the_verdict_of_the_whole_policy(values: list[float]) -> None:
    nsfw, text, dark = values
    made = prediction(
        scores=(scores("nsfw", nsfw=nsfw), scores("embedded_text", text=text), scores("quality", dark=dark))
    )
    subject = Subject(made.outcome, made.reason, made.scores)
    assert is_publishable(POLICY, made) is (evaluate(POLICY, subject).action != "block")
