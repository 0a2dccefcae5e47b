"""Encoding of a reader's position in a topic as a short text, which a client sends back to continue."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Final

# Format version, the first byte of every text.
_FORM: Final = 1
# Kafka's offsets are signed 64-bit numbers.
_MOST: Final = 2**63 - 1
# More than any topic of this project. Longer texts are refused before they cost memory.
_MOST_PARTITIONS: Final = 4_096
_MOST_CHARACTERS: Final = 16_384


class NotPositions(ValueError):
    """Error of a text that `encode_positions` did not make."""


def encode_positions(positions: Mapping[int, int]) -> str:
    """Return the next offset of each partition as URL-safe text. A partition without an offset counts as 0.

    Offsets take seven bits a byte: a topic of 8 partitions with a million records each takes 34 letters.
    """
    encoded = bytearray((_FORM,))
    for partition in range(max(positions, default=-1) + 1):
        left = positions.get(partition, 0)
        while left >= 0x80:
            encoded.append(left & 0x7F | 0x80)
            left >>= 7
        encoded.append(left)
    return base64.urlsafe_b64encode(encoded).rstrip(b"=").decode()


def decode_positions(text: str) -> dict[int, int]:
    """Return the positions in a text of `encode_positions`. Raises NotPositions for any other text."""
    if len(text) > _MOST_CHARACTERS or not text.isascii():
        raise NotPositions("too long, or not in the letters of URLs")
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise NotPositions("not in the letters of URLs") from error
    if not raw or raw[0] != _FORM:
        raise NotPositions("of no form that is known")
    offsets: list[int] = []
    value = shift = 0
    for byte in raw[1:]:
        value |= (byte & 0x7F) << shift
        if value > _MOST or shift > 63:
            raise NotPositions("an offset that no topic has")
        if byte & 0x80:
            shift += 7
            continue
        offsets.append(value)
        value = shift = 0
    if shift:
        raise NotPositions("cut short")
    if len(offsets) > _MOST_PARTITIONS:
        raise NotPositions("more partitions than a topic has")
    positions = dict(enumerate(offsets))
    if encode_positions(positions) != text:
        raise NotPositions("written in another way")
    return positions
