"""Mutations of JSON and YAML that mostly stay JSON and YAML."""

from __future__ import annotations

import json
import random
from typing import Any, Final

from tests.fuzz import mutations
from tests.fuzz.mutations import Mutation, once

_VALUES: Final[tuple[Any, ...]] = (
    *(None, True, False, 0, -1, 1, 1.5, 1e308, float("nan"), float("inf"), 2**31, 2**53 + 1, 2**63, 2**64, -(2**63)),
    *(
        10**400,
        "",
        "0",
        "\0",
        "\ud800",
        "é",
        "\r\n",
        "a/../b",
        "%",
        "%zz",
        "%ff",
        "+",
        "x" * 2000,
        "1e999",
        "NaN",
        "{}",
    ),
    *([], {}, [[]], [{}], {"": None}, [None] * 300, {"Records": []}, "s3:ObjectCreated:Put", "1970-01-01T00:00:00Z"),
)


def change_json(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Replace, drop, rename, nest or repeat one value of a JSON text; a second text gives values, too."""
    try:
        changed = _value_changed(rng, json.loads(content), json.loads(other))
        return json.dumps(changed, ensure_ascii=rng.random() < 0.9).encode("utf-8", "surrogatepass")
    except (ValueError, OverflowError, RecursionError):
        return mutations.set_bytes(rng, content, other)


def _value_changed(rng: random.Random, node: Any, foreign: Any) -> Any:
    if isinstance(node, dict) and node and rng.random() < 0.85:
        key = rng.choice(list(node))
        match rng.randrange(12):
            case 0:
                return {name: value for name, value in node.items() if name != key}
            case 1:
                return {**node, rng.choice((key.swapcase(), key + "2", "")): node[key]}
            case _:
                return {**node, key: _value_changed(rng, node[key], foreign)}
    if isinstance(node, list) and node and rng.random() < 0.85:
        at = rng.randrange(len(node))
        match rng.randrange(8):
            case 0:
                return node[:at] + node[at + 1 :]
            case 1:
                return node[:at] + [node[at]] * rng.choice((2, 30)) + node[at:]
            case _:
                return [*node[:at], _value_changed(rng, node[at], foreign), *node[at + 1 :]]
    match rng.randrange(8):
        case 0:
            return [node]
        case 1:
            return json.dumps(node)
        case 2:
            return _part_of(rng, foreign)
        case 3 if isinstance(node, str) and node:
            return once(rng, node.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
        case 3 if type(node) is int:
            return node + rng.choice((-1, 1, 2**31, 0.5))
        case _:
            return rng.choice(_VALUES)


def _part_of(rng: random.Random, node: Any) -> Any:
    while isinstance(node, dict | list) and node and rng.random() < 0.8:
        node = rng.choice(list(node.values()) if isinstance(node, dict) else node)
    return node


def nest_json(rng: random.Random, content: bytes, _: bytes) -> bytes:
    """Put the text into many brackets, or many brackets into the text."""
    deep = rng.choice((10, rng.randrange(850, 1000), 1100, 5000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"Records":[', b"]}"), (b'{"a":', b"}")))
    if rng.random() < 0.5:
        return opening * deep + content + closing * deep
    at = rng.randrange(len(content))
    return content[:at] + opening * deep + b"0" + closing * deep + content[at:]


JSON: Final[tuple[Mutation, ...]] = (*mutations.BYTES, *(change_json,) * 12, nest_json)

_YAML_VALUES: Final = (
    *(
        "",
        "~",
        "null",
        "true",
        "0",
        "-1",
        "1e400",
        ".nan",
        ".inf",
        "0x10",
        "0b2",
        "0o8",
        "1_000",
        "1:30",
        "9" * 5000,
        "é",
    ),
    *(
        "[]",
        "{}",
        "[[a]]",
        "{a: {b: c}}",
        "{? [a] : b}",
        "&a [*a]",
        "*a",
        "!!python/object:os.system x",
        "!!binary '*'",
    ),
    *("0x" + "f" * 5000, "!!timestamp 2024-99-99", "2024-99-99", "2001-12-14t21:59:43.10-05:00", "!!int x"),
    *(
        "!!int ''",
        "!!float x",
        "!!bool x",
        "!!set {a}",
        "!!omap [a]",
        "!!pairs [a: b]",
        "!!map [a]",
        "<<: x",
        "'\\0'",
        "!<",
        "!!binary '*'",
    ),
    *('"\\UFFFFFFFF"', '"\\x00"', '"\\ud800"', "|9\n x", "- a\n- b", "%YAML 9.9", "---", "...", "\t", "? a", "=", "<<"),
)


def change_yaml_value(rng: random.Random, content: bytes, _: bytes) -> bytes:
    """Replace the value of one line."""
    lines = content.decode("utf-8", "replace").split("\n")
    at = rng.randrange(len(lines))
    name, colon, _old = lines[at].partition(":")
    lines[at] = f"{name}: {rng.choice(_YAML_VALUES)}" if colon else lines[at] + rng.choice(_YAML_VALUES)
    return "\n".join(lines).encode()


def change_yaml_lines(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Drop, repeat, move, indent or borrow lines."""
    lines = content.decode("utf-8", "replace").split("\n")
    at = rng.randrange(len(lines))
    match rng.randrange(5):
        case 0:
            del lines[at : at + rng.choice((1, 1, 3))]
        case 1:
            lines[at:at] = [lines[at]] * rng.choice((1, 2, 50))
        case 2:
            lines.insert(rng.randrange(len(lines)), lines.pop(at))
        case 3:
            lines[at] = rng.choice(("  ", " ", "- ", "? ", "&a ", "\t")) + lines[at]
        case _:
            borrowed = other.decode("utf-8", "replace").split("\n")
            start = rng.randrange(len(borrowed))
            lines[at:at] = borrowed[start : start + rng.randrange(1, 6)]
    return "\n".join(lines).encode()


def nest_yaml(rng: random.Random, content: bytes, _: bytes) -> bytes:
    """Replace a value by one that nests deeply, or by aliases of aliases."""
    lines = content.decode("utf-8", "replace").split("\n")
    at = rng.randrange(len(lines))
    name = lines[at].partition(":")[0]
    deep = rng.choice((20, 70, 300, 2000))
    nests = (
        "[" * deep + "]" * deep,
        "{a: " * deep + "}" * deep,
        "- " * deep + "a",
        "[&a [x, x], " + ", ".join(f"&{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]" for i in range(9)) + "]",
        "&a [*a, *a]",
    )
    lines[at] = f"{name}: {rng.choice(nests)}"
    return "\n".join(lines).encode()


YAML: Final[tuple[Mutation, ...]] = (
    *mutations.BYTES[:4],
    *(change_yaml_value,) * 6,
    *(change_yaml_lines,) * 6,
    nest_yaml,
)
