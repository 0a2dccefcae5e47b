"""Source text of parts of a JSON object, so that the content of an envelope keeps its original bytes."""

from __future__ import annotations

import json

_DECODER = json.JSONDecoder()
_SPACE = " \t\n\r"


def record_texts(text: str) -> list[str]:
    """Return the text of each element of the top-level `Records` array of `text`, which is valid JSON.

    As in parsing, the last member of that name counts.
    """
    texts: list[str] = []
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        name, at = _DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        if name == "Records" and text[at] == "[":
            texts, at = _elements(text, at)
        else:
            _, at = _DECODER.raw_decode(text, at)
        at = _skip(text, at)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return texts


def member_text(text: str, name: str) -> str:
    """Return the text of the last member `name` of the object `text`, which is valid JSON."""
    member = ""
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        this, at = _DECODER.raw_decode(text, at)
        at = _skip(text, _skip(text, at) + 1)
        _, end = _DECODER.raw_decode(text, at)
        if this == name:
            member = text[at:end]
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return member


def _elements(text: str, at: int) -> tuple[list[str], int]:
    texts: list[str] = []
    at = _skip(text, at + 1)
    while text[at] != "]":
        _, end = _DECODER.raw_decode(text, at)
        texts.append(text[at:end])
        at = _skip(text, end)
        if text[at] == ",":
            at = _skip(text, at + 1)
    return texts, at + 1


def _skip(text: str, at: int) -> int:
    while text[at] in _SPACE:
        at += 1
    return at
