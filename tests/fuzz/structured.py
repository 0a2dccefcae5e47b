"""Mutations that keep what a reader checks first, so that it gets further: image containers, JSON, YAML."""

from __future__ import annotations

import json
import random
import zlib
from typing import Any, Final

from tests.fuzz import mutations
from tests.fuzz.mutations import Mutation

_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, at = [], len(_SIGNATURE)
    while at + 12 <= len(content):
        length = int.from_bytes(content[at : at + 4], "big")
        found.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def change_png_chunk(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Change, repeat, drop or move one chunk; lengths and checksums are right again. Pixels change before deflate."""
    if not content.startswith(_SIGNATURE):
        return mutations.set_number(rng, content, other)
    chunks = _chunks(content) or [(b"IHDR", b"")]
    at = rng.randrange(len(chunks))
    kind, body = chunks.pop(at)
    match rng.randrange(5):
        case 0:
            pass
        case 1:
            chunks.insert(rng.randrange(len(chunks) + 1), (kind, body))
        case 2:
            chunks[at:at] = [(kind, body)] * rng.choice((2, 20))
        case _:
            chunks.insert(at, (kind, _changed_body(rng, kind, body)))
    return _SIGNATURE + b"".join(
        len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big") for kind, body in chunks
    )


def _changed_body(rng: random.Random, kind: bytes, body: bytes) -> bytes:
    if kind == b"IDAT" and rng.random() < 0.7:
        try:
            return zlib.compress(_once(rng, zlib.decompress(body)), 1)
        except zlib.error:
            pass
    return _once(rng, body)


def _once(rng: random.Random, content: bytes) -> bytes:
    return rng.choice(mutations.BYTES)(rng, content, content) if content else bytes((rng.randrange(256),))


def change_jpeg_segment(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Change, repeat or drop one segment before the picture's data; its length is right again."""
    if not content.startswith(b"\xff\xd8"):
        return mutations.set_number(rng, content, other)
    places, at = [], 2
    while at + 4 <= len(content) and content[at] == 0xFF:
        end = at + 2 + int.from_bytes(content[at + 2 : at + 4], "big")
        places.append((at, end))
        if content[at + 1] == 0xDA:
            break
        at = end
    if not places:
        return mutations.set_number(rng, content, other)
    at, end = rng.choice(places)
    body = content[at + 4 : end]
    match rng.randrange(4):
        case 0:
            new = b""
        case 1:
            new = content[at:end] * rng.choice((2, 20))
        case _:
            body = _once(rng, body)[:65_533]
            new = content[at : at + 2] + (len(body) + 2).to_bytes(2, "big") + body
    return content[:at] + new + content[end:]


_CONTAINERS: Final = frozenset({b"meta", b"iprp", b"ipco", b"moov", b"trak", b"mdia", b"minf", b"stbl", b"jp2h"})


def change_box(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Change, repeat or drop one box of an ISO file; the sizes of the boxes around it are right again."""
    if content[4:8] not in (b"ftyp", b"jP  ", b"JXL "):
        return mutations.set_number(rng, content, other)
    return _boxes_changed(rng, content, 0)


def _boxes_changed(rng: random.Random, content: bytes, depth: int) -> bytes:
    places, at = [], 0
    while at + 8 <= len(content):
        end = at + int.from_bytes(content[at : at + 4], "big")
        if end < at + 8:
            break
        places.append((at, end))
        at = end
    if not places:
        return _once(rng, content)
    at, end = rng.choice(places)
    kind, body = content[at + 4 : at + 8], content[at + 8 : end]
    skipped = 4 if kind == b"meta" else 0
    if kind in _CONTAINERS and depth < 8 and rng.random() < 0.9:
        body = body[:skipped] + _boxes_changed(rng, body[skipped:], depth + 1)
    else:
        chance = rng.randrange(6)
        if chance == 0:
            return content[:at] + content[end:]
        if chance == 1:
            return content[:end] + content[at:end] * rng.choice((1, 20)) + content[end:]
        body = _once(rng, body)
    return content[:at] + (8 + len(body)).to_bytes(4, "big") + kind + body + content[end:]


IMAGES: Final[tuple[Mutation, ...]] = (*mutations.BYTES, change_png_chunk, change_jpeg_segment, change_box, change_box)

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
        tree, foreign = json.loads(content), json.loads(other)
    except (ValueError, RecursionError):
        return mutations.set_bytes(rng, content, other)
    changed = _value_changed(rng, tree, foreign)
    return json.dumps(changed, ensure_ascii=rng.random() < 0.9).encode("utf-8", "surrogatepass")


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
            return _once(rng, node.encode("utf-8", "surrogatepass")).decode("utf-8", "replace")
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
    deep = rng.choice((10, 900, 1100, 5000))
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
    *("0x" + "f" * 5000, "!!timestamp 2024-99-99", "2024-99-99", "2001-12-14t21:59:43.10-05:00", "!!int x", "!!int ''"),
    *("!!float x", "!!bool x", "!!set {a}", "!!omap [a]", "!!pairs [a: b]", "!!map [a]", "<<: x", "'\\0'", "!<", "!"),
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
