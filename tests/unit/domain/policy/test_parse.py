from __future__ import annotations

import pytest

from app.domain.policy import AllOf, AnyOf, FieldTest, OutcomeTest, ScoreTest, check_references, parse_policy, run_cases
from app.errors import PolicyError
from app.settings import ROOT

RULE = """\
policy: shop
version: 2
rules:
  - id: nudity
    action: block
    severity: 90
    when: {model: nsfw, label: nsfw, op: ">=", threshold: 0.8}
"""


def test_a_rule_is_read_with_its_line() -> None:
    policy = parse_policy(RULE, "shop.yaml")
    assert (policy.name, policy.version) == ("shop", "2")
    (rule,) = policy.rules
    assert (rule.id, rule.action, rule.severity, rule.line) == ("nudity", "block", 90, 4)
    assert rule.when == ScoreTest("nsfw", "nsfw", ">=", 0.8, 7)


def test_all_and_any_nest() -> None:
    text = RULE.replace(
        '{model: nsfw, label: nsfw, op: ">=", threshold: 0.8}',
        """
      all:
        - any:
            - {model: nsfw, label: nsfw, op: ">", threshold: 0.5}
            - outcome: rejected
              reasons: [too_complex]
        - {model: embedded_text, label: text, op: "<", threshold: 1}""",
    )
    (rule,) = parse_policy(text, "shop.yaml").rules
    assert isinstance(rule.when, AllOf)
    first, second = rule.when.parts
    assert isinstance(first, AnyOf)
    assert first.parts[1] == OutcomeTest("rejected", ("too_complex",), 11)
    assert isinstance(second, ScoreTest)


def test_the_digest_follows_what_decides_and_nothing_else() -> None:
    one = parse_policy(RULE, "a")
    commented = parse_policy("# a comment\n" + RULE, "b")
    stricter = parse_policy(RULE.replace("0.8", "0.7"), "c")
    assert one.full_version == commented.full_version
    assert one.full_version != stricter.full_version
    assert one.full_version.startswith("2+")


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ('op: ">="', 'op: "~"', r"line 7: unknown op '~'; known are >=, >, <=, <"),
        ("threshold: 0.8", "threshold: 1.2", "line 7: threshold 1.2 is outside 0 to 1"),
        ("threshold: 0.8", "threshold: .nan", "line 7: threshold '.nan' is not a plain number"),
        ("threshold: 0.8", "threshold: high", "line 7: threshold must be a number from 0 to 1"),
        ("threshold: 0.8", "threshold: 0.8, weight: 2", "line 7: unknown key 'weight' in a score condition"),
        (", threshold: 0.8", "", "line 7: a score condition lacks the key 'threshold'"),
        ("action: block", "action: delete", "line 5: unknown action 'delete'; known are advise, notify, review, block"),
        ("severity: 90", "severity: 101", "line 6: severity 101 is outside 1 to 100"),
        ("severity: 90", "severity: 1.5", "line 6: severity must be a whole number"),
        ("severity: 90", "severity: 90\n    severity: 80", "line 7: key 'severity' stands twice in a rule"),
        ("id: nudity", "id: yes", "line 4: a rule's id must be text"),
        ("id: nudity", "id: Nudity!", "line 4: a rule's id 'Nudity!' must look like"),
        ("    when: {model", "    when: [model", "line 7: not valid YAML"),
        ("when: {model: nsfw", "when: {model: &m nsfw", ""),
        ("policy: shop", "polisy: shop", "line 1: unknown key 'polisy' in a policy"),
        ("version: 2\n", "", "line 1: a policy lacks the key 'version'"),
        ("policy: shop", "policy: [shop]", "line 1: policy must be text"),
    ],
)
def test_a_wrong_file_is_refused_with_line_and_reason(old: str, new: str, complaint: str) -> None:
    text = RULE.replace(old, new)
    assert text != RULE
    if not complaint:
        assert parse_policy(text, "shop.yaml").rules[0].id == "nudity"
        return
    with pytest.raises(PolicyError, match=f"^shop.yaml, {complaint}"):
        parse_policy(text, "shop.yaml")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "line 1: the file is empty"),
        ("- a\n", "line 1: a policy must be a mapping"),
        ("a: &x [1]\nb: *x\n", "line 2: aliases"),
        ("policy: \x00", "line 1: not valid YAML"),
        ("policy: p\nversion: 1\nrules: []\n", "line 3: rules must be a list with at least one entry"),
        ("policy: p\nversion: 1\nrules: [x]\n", "line 3: a rule must be a mapping"),
        ("policy: p\nversion: 1\nrules: " + "[" * 5000 + "\n", "line 3: nested too deeply"),
        (RULE + RULE[RULE.index("  - id") :], "line 8: rule 'nudity' stands already in line 4"),
        (RULE.replace("when: {", "when: {all: [{any: []}], "), "line 7: unknown key 'model' in an all condition"),
        (RULE + "tests:\n  - {name: x, expect: blok}\n", "line 9: unknown action 'blok'"),
        (RULE + "tests:\n  - {name: x, expect: block, rules: [nudty]}\n", "line 9: there is no rule 'nudty'"),
        (
            RULE[: RULE.index("{model")] + "{outcome: rejected, reasons: [hostile]}\n",
            "line 7: unknown reason 'hostile'; known are empty, ",
        ),
        (RULE + "tests:\n  - {name: x, expect: block, scores: {nsfw: {nsfw: 2}}}\n", "line 9: score of nsfw nsfw 2 is"),
    ],
)
def test_a_broken_file_is_refused_with_line_and_reason(text: str, complaint: str) -> None:
    with pytest.raises(PolicyError, match=f"^p.yaml, (?:{complaint})"):
        parse_policy(text, "p.yaml")


def test_nesting_is_bounded() -> None:
    deep = "{any: [" * 20 + "{outcome: gone}" + "]}" * 20
    with pytest.raises(PolicyError, match="nested deeper than 12"):
        parse_policy(RULE.replace('{model: nsfw, label: nsfw, op: ">=", threshold: 0.8}', deep), "p.yaml")


def test_a_model_that_nobody_runs_is_refused() -> None:
    policy = parse_policy(RULE, "shop.yaml")
    check_references(policy, {"nsfw": ("nsfw",)})
    with pytest.raises(
        PolicyError, match=r"shop\.yaml, line 7: rule 'nudity': there is no model 'nsfw'; known are quality"
    ):
        check_references(policy, {"quality": ("blurry",)})
    with pytest.raises(PolicyError, match="line 7: rule 'nudity': model nsfw has no label 'nsfw'; did you mean 'nsfv'"):
        check_references(policy, {"nsfw": ("nsfv",)})


def test_the_shipped_policy_passes_its_own_table() -> None:
    path = ROOT / "policies" / "default.yaml"
    policy = parse_policy(path.read_text(), str(path))
    assert len(policy.cases) >= 10
    assert run_cases(policy) == ()


def test_a_case_that_fails_says_line_and_why() -> None:
    cases = "tests:\n  - {name: mild, scores: {nsfw: {nsfw: 0.9}}, expect: none}\n"
    (failure,) = run_cases(parse_policy(RULE + cases, "p.yaml"))
    assert (failure.case, failure.line) == ("mild", 9)
    assert "expected none, got block (block: nsfw nsfw 0.900 is at or above 0.8" in failure.reason


def test_a_case_names_the_rules_that_must_match() -> None:
    cases = "tests:\n  - {name: mild, scores: {nsfw: {nsfw: 0.1}}, expect: none, rules: [nudity]}\n"
    (failure,) = run_cases(parse_policy(RULE + cases, "p.yaml"))
    assert failure.reason == "expected rules nudity, matched none"


# --- fields of the picture ---


def with_field(condition: str) -> str:
    return RULE.replace('{model: nsfw, label: nsfw, op: ">=", threshold: 0.8}', condition)


def test_conditions_on_fields_are_read() -> None:
    (rule,) = parse_policy(with_field('{field: frames, op: ">", value: 100}'), "p.yaml").rules
    assert rule.when == FieldTest("frames", ">", 100, 7)
    (rule,) = parse_policy(with_field('{field: truncated, op: "==", value: true}'), "p.yaml").rules
    assert rule.when == FieldTest("truncated", "==", 1, 7)
    check_references(parse_policy(with_field('{field: frames, op: ">", value: 100}'), "p.yaml"), {"nsfw": ("nsfw",)})


def test_the_digest_follows_conditions_on_fields() -> None:
    texts = ('{field: frames, op: ">", value: 100}', '{field: frames, op: ">", value: 101}')
    more = ('{field: truncated, op: "==", value: true}', '{field: truncated, op: "==", value: false}')
    assert len({parse_policy(with_field(text), "p").digest for text in (*texts, *more)}) == 4


@pytest.mark.parametrize(
    ("condition", "complaint"),
    [
        ('{field: height, op: ">", value: 1}', "unknown field 'height'; known are frames, truncated"),
        ('{field: frames, op: "~", value: 1}', "unknown op of frames '~'; known are >=, >, <=, <, =="),
        ('{field: truncated, op: ">", value: true}', "unknown op of truncated '>'; known are =="),
        ('{field: frames, op: ">", value: 1.5}', "frames must be a whole number"),
        ('{field: frames, op: ">", value: 0}', "frames 0 is outside 1 to"),
        ('{field: frames, op: ">", value: true}', "frames must be a number"),
        ('{field: truncated, op: "==", value: 1}', "truncated must be true or false"),
        ('{field: truncated, op: "==", value: "yes"}', "truncated must be true or false"),
        ('{field: frames, op: ">", threshold: 1}', "unknown key 'threshold' in a field condition"),
        ('{field: frames, op: ">"}', "a field condition lacks the key 'value'"),
    ],
)
def test_a_wrong_condition_on_a_field_is_refused_with_line_and_reason(condition: str, complaint: str) -> None:
    with pytest.raises(PolicyError, match=f"^p.yaml, line 7: {complaint}"):
        parse_policy(with_field(condition), "p.yaml")


def test_cases_say_what_the_picture_is() -> None:
    text = with_field('{all: [{field: frames, op: ">", value: 100}, {field: truncated, op: "==", value: true}]}')
    cases = (
        "{name: both, frames: 101, truncated: true, expect: block}",
        "{name: short, frames: 100, truncated: true, expect: none}",
        "{name: whole, frames: 101, expect: none}",
        "{name: a still picture, truncated: true, expect: none}",
        "{name: not scored, outcome: rejected, reason: undecodable, frames: 101, truncated: true, expect: none}",
    )
    assert run_cases(parse_policy(text + "tests:\n" + "".join(f"  - {case}\n" for case in cases), "p.yaml")) == ()
    wrong = parse_policy(text + "tests:\n  - {name: x, frames: 101, truncated: true, expect: none}\n", "p.yaml")
    (failure,) = run_cases(wrong)
    assert "the number of frames 101 is above 100 and the file is truncated" in failure.reason
    with pytest.raises(PolicyError, match="line 9: frames must be a whole number"):
        parse_policy(text + "tests:\n  - {name: x, frames: 1.5, expect: none}\n", "p.yaml")
