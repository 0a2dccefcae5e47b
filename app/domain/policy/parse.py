"""Reads a policy file; a wrong one is refused with its line and the reason.

The file is walked as YAML nodes, so that every complaint knows its line. Nothing in it is ever executed; aliases are
refused, so a small file cannot unfold into a large one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, NoReturn, assert_never

import yaml

from app.domain import plain_yaml
from app.domain.policy.rules import (
    ACTIONS,
    FIELD_OPS,
    FRAMES,
    NO_ACTION,
    OPS,
    OUTCOMES,
    REASONS,
    AllOf,
    AnyOf,
    Condition,
    FieldTest,
    OutcomeTest,
    Policy,
    PolicyCase,
    Rule,
    ScoreTest,
)
from app.errors import PolicyError

_NAME: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_WORD: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# A person writes a policy; deeper nesting than this is a mistake, and recursion stays bounded.
_MAX_DEPTH: Final = 12
_MAX_FRAMES: Final = 1_000_000
_Fields = Mapping[str, yaml.Node]


def parse_policy(text: str, source: str) -> Policy:
    """Return the policy in `text`; `source` names the file in complaints.

    Raises PolicyError(`<source>, line N: <reason>`).
    """
    return _Reader(source).policy(text)


class _Reader:
    def __init__(self, source: str) -> None:
        self._source = source

    def _refuse(self, line: int, reason: str) -> NoReturn:
        raise PolicyError(f"{self._source}, line {line}: {reason}")

    def policy(self, text: str) -> Policy:
        root = self._compose(text)
        fields = self._mapping(
            root, "a policy", required=("policy", "version", "rules"), optional=("description", "tests")
        )
        name = self._text(fields["policy"], "policy", _NAME)
        version = self._version(fields["version"])
        description = self._text(fields["description"], "description") if "description" in fields else ""
        rules = tuple(self._rule(node) for node in self._sequence(fields["rules"], "rules"))
        seen: dict[str, int] = {}
        for rule in rules:
            if rule.id in seen:
                self._refuse(rule.line, f"rule {rule.id!r} stands already in line {seen[rule.id]}")
            seen[rule.id] = rule.line
        cases = (
            tuple(self._case(node, seen) for node in self._sequence(fields["tests"], "tests"))
            if "tests" in fields
            else ()
        )
        return Policy(name, version, _digest(name, version, rules), description, rules, cases, self._source, text)

    # --- YAML nodes ---

    def _compose(self, text: str) -> yaml.Node:
        try:
            return plain_yaml.compose(text)
        except plain_yaml.NotPlain as error:
            self._refuse(error.line, error.reason)

    def _mapping(
        self, node: yaml.Node, what: str, *, required: tuple[str, ...], optional: tuple[str, ...] = ()
    ) -> _Fields:
        if not isinstance(node, yaml.MappingNode):
            self._refuse(_line(node), f"{what} must be a mapping with {', '.join(required)}")
        fields: dict[str, yaml.Node] = {}
        for key_node, value in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if key not in required and key not in optional:
                allowed = ", ".join((*required, *optional))
                self._refuse(_line(key_node), f"unknown key {key!r} in {what}; known are {allowed}")
            if key in fields:
                self._refuse(_line(key_node), f"key {key!r} stands twice in {what}")
            fields[key] = value
        for key in required:
            if key not in fields:
                self._refuse(_line(node), f"{what} lacks the key {key!r}")
        return fields

    def _sequence(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        if not isinstance(node, yaml.SequenceNode) or not node.value:
            self._refuse(_line(node), f"{what} must be a list with at least one entry")
        return list(node.value)

    def _text(self, node: yaml.Node, what: str, pattern: re.Pattern[str] | None = None) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != "tag:yaml.org,2002:str" or not node.value.strip():
            self._refuse(_line(node), f"{what} must be text (put it in quotes if YAML reads it as something else)")
        if pattern is not None and not pattern.fullmatch(node.value):
            self._refuse(_line(node), f"{what} {node.value!r} must look like {pattern.pattern}")
        return " ".join(str(node.value).split())

    def _version(self, node: yaml.Node) -> str:
        number = isinstance(node, yaml.ScalarNode) and node.tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        if number and _WORD.fullmatch(node.value):
            return str(node.value)
        return self._text(node, "version", _WORD)

    def _choice(self, node: yaml.Node, what: str, choices: tuple[str, ...]) -> str:
        value = node.value if isinstance(node, yaml.ScalarNode) else None
        if value not in choices:
            self._refuse(_line(node), f"unknown {what} {value!r}; known are {', '.join(choices)}")
        return str(value)

    def _number(self, node: yaml.Node, what: str, low: float, high: float) -> float:
        if not isinstance(node, yaml.ScalarNode) or node.tag not in (
            "tag:yaml.org,2002:int",
            "tag:yaml.org,2002:float",
        ):
            self._refuse(_line(node), f"{what} must be a number from {low:g} to {high:g}")
        try:
            value = float(node.value)
        except ValueError:
            self._refuse(_line(node), f"{what} {node.value!r} is not a plain number")
        if not low <= value <= high:  # also refuses nan
            self._refuse(_line(node), f"{what} {node.value} is outside {low:g} to {high:g}")
        return value

    # --- parts of a policy ---

    def _rule(self, node: yaml.Node) -> Rule:
        fields = self._mapping(node, "a rule", required=("id", "action", "severity", "when"), optional=("description",))
        severity = self._number(fields["severity"], "severity", 1, 100)
        if severity != int(severity):
            self._refuse(_line(fields["severity"]), "severity must be a whole number from 1 to 100")
        return Rule(
            id=self._text(fields["id"], "a rule's id", _NAME),
            description=self._text(fields["description"], "description") if "description" in fields else "",
            action=self._choice(fields["action"], "action", ACTIONS),
            severity=int(severity),
            when=self._condition(fields["when"], 0),
            line=_line(node),
        )

    def _condition(self, node: yaml.Node, depth: int) -> Condition:
        if depth > _MAX_DEPTH:
            self._refuse(_line(node), f"conditions are nested deeper than {_MAX_DEPTH}")
        keys = (
            {key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode)}
            if isinstance(node, yaml.MappingNode)
            else set()
        )
        if "all" in keys:
            parts = self._sequence(self._mapping(node, "an all condition", required=("all",))["all"], "all")
            return AllOf(tuple(self._condition(part, depth + 1) for part in parts))
        if "any" in keys:
            parts = self._sequence(self._mapping(node, "an any condition", required=("any",))["any"], "any")
            return AnyOf(tuple(self._condition(part, depth + 1) for part in parts))
        if "outcome" in keys:
            fields = self._mapping(node, "an outcome condition", required=("outcome",), optional=("reasons",))
            reasons = (
                tuple(self._choice(part, "reason", REASONS) for part in self._sequence(fields["reasons"], "reasons"))
                if "reasons" in fields
                else ()
            )
            return OutcomeTest(self._choice(fields["outcome"], "outcome", OUTCOMES), reasons, _line(node))
        if "field" in keys:
            return self._field_condition(node)
        if not keys:
            told = "all, any, outcome, field with op, value, or model with label, op, threshold"
            self._refuse(_line(node), f"a condition is one of: {told}")
        fields = self._mapping(node, "a score condition", required=("model", "label", "op", "threshold"))
        return ScoreTest(
            model=self._text(fields["model"], "model", _WORD),
            label=self._text(fields["label"], "label", _WORD),
            op=self._choice(fields["op"], "op", OPS),
            threshold=self._number(fields["threshold"], "threshold", 0, 1),
            line=_line(node),
        )

    def _field_condition(self, node: yaml.Node) -> FieldTest:
        fields = self._mapping(node, "a field condition", required=("field", "op", "value"))
        field = self._choice(fields["field"], "field", tuple(FIELD_OPS))
        op = self._choice(fields["op"], f"op of {field}", FIELD_OPS[field])
        value = self._frames(fields["value"]) if field == FRAMES else self._switch(fields["value"], field)
        return FieldTest(field, op, int(value), _line(node))

    def _frames(self, node: yaml.Node) -> int:
        value = self._number(node, "frames", 1, _MAX_FRAMES)
        if value != int(value):
            self._refuse(_line(node), "frames must be a whole number")
        return int(value)

    def _switch(self, node: yaml.Node, what: str) -> bool:
        if not isinstance(node, yaml.ScalarNode) or node.value not in ("true", "false"):
            self._refuse(_line(node), f"{what} must be true or false")
        return bool(node.value == "true")

    def _case(self, node: yaml.Node, rules: Mapping[str, int]) -> PolicyCase:
        fields = self._mapping(
            node,
            "a test",
            required=("name", "expect"),
            optional=("scores", "outcome", "reason", "frames", "truncated", "rules"),
        )
        outcome = self._choice(fields["outcome"], "outcome", OUTCOMES) if "outcome" in fields else "scored"
        expected: tuple[str, ...] | None = None
        if "rules" in fields:
            rule_list = fields["rules"]
            if not isinstance(rule_list, yaml.SequenceNode):
                self._refuse(_line(rule_list), "rules of a test must be a list of rule ids")
            for part in rule_list.value:
                if not isinstance(part, yaml.ScalarNode):
                    self._refuse(_line(part), "a rule id must be text")
                if part.value not in rules:
                    self._refuse(_line(part), f"there is no rule {part.value!r}")
            expected = tuple(str(part.value) for part in rule_list.value)
        return PolicyCase(
            name=self._text(fields["name"], "a test's name"),
            outcome=outcome,
            reason=self._choice(fields["reason"], "reason", REASONS) if "reason" in fields else "",
            scores=self._scores(fields["scores"]) if "scores" in fields else (),
            expect=self._choice(fields["expect"], "action", (NO_ACTION, *ACTIONS)),
            rules=expected,
            line=_line(node),
            frames=self._frames(fields["frames"]) if "frames" in fields else 1,
            truncated=self._switch(fields["truncated"], "truncated") if "truncated" in fields else False,
        )

    def _scores(self, node: yaml.Node) -> tuple[tuple[str, str, float], ...]:
        scores = []
        for model, labels in self._free_mapping(node, "scores"):
            for label, value in self._free_mapping(labels, f"scores of {model}"):
                scores.append((model, label, self._number(value, f"score of {model} {label}", 0, 1)))
        return tuple(scores)

    def _free_mapping(self, node: yaml.Node, what: str) -> list[tuple[str, yaml.Node]]:
        if not isinstance(node, yaml.MappingNode):
            self._refuse(_line(node), f"{what} must be a mapping")
        pairs = [(self._text(key, f"a name in {what}", _WORD), value) for key, value in node.value]
        if len({key for key, _ in pairs}) != len(pairs):
            self._refuse(_line(node), f"a name stands twice in {what}")
        return pairs


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


def _digest(name: str, version: str, rules: tuple[Rule, ...]) -> str:
    content = [name, version, [[r.id, r.description, r.action, r.severity, _plain(r.when)] for r in rules]]
    return hashlib.sha256(json.dumps(content, separators=(",", ":")).encode()).hexdigest()


def _plain(condition: Condition) -> list[Any]:
    match condition:
        case ScoreTest(model, label, op, threshold, _):
            return ["score", model, label, op, threshold]
        case OutcomeTest(outcome, reasons, _):
            return ["outcome", outcome, list(reasons)]
        case FieldTest(field, op, value, _):
            return ["field", field, op, value]
        case AllOf(parts):
            return ["all", *(_plain(part) for part in parts)]
        case AnyOf(parts):
            return ["any", *(_plain(part) for part in parts)]
        case _:
            assert_never(condition)
