"""Mutations that know nothing of a format: bits, lengths, cuts, and blocks that move between two inputs."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

Mutation = Callable[[random.Random, bytes, bytes], bytes]
"""Makes a new input of one input and of a second one, which may be ignored. Equal arguments give equal results."""

_EXTREMES: Final = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_BLOCK_BYTES: Final = 256


def flip_bits(rng: random.Random, content: bytes, _: bytes) -> bytes:
    changed = bytearray(content)
    for _index in range(rng.choice((1, 1, 1, 2, 4, 16))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_bytes(rng: random.Random, content: bytes, _: bytes) -> bytes:
    changed = bytearray(content)
    for _index in range(rng.choice((1, 1, 2, 4))):
        changed[rng.randrange(len(changed))] = rng.choice((0, 0xFF, rng.randrange(256)))
    return bytes(changed)


def set_bytes_of_the_start(rng: random.Random, content: bytes, other: bytes) -> bytes:
    """Change the first 96 bytes alone: that is where most headers are."""
    return set_bytes(rng, content[:96], other) + content[96:]


def set_number(rng: random.Random, content: bytes, _: bytes) -> bytes:
    """Overwrite a number of 2, 4 or 8 bytes with an extreme one, or one that is off by little."""
    width = rng.choice((2, 2, 4, 4, 8))
    order = rng.choice(("big", "little"))
    at = rng.randrange(min(len(content), rng.choice((64, 512, len(content)))))
    old = int.from_bytes(content[at : at + width], "big" if order == "big" else "little")
    value = rng.choice((*_EXTREMES, len(content), len(content) - at, old + 1, old - 1, old * 2)) % (1 << 8 * width)
    number = value.to_bytes(width, "big" if order == "big" else "little")
    return content[:at] + number + content[at + width :]


def cut(rng: random.Random, content: bytes, _: bytes) -> bytes:
    return content[: rng.randrange(len(content))]


def delete_block(rng: random.Random, content: bytes, _: bytes) -> bytes:
    at = rng.randrange(len(content))
    return content[:at] + content[at + rng.randrange(1, _BLOCK_BYTES) :]


def repeat_block(rng: random.Random, content: bytes, _: bytes) -> bytes:
    at = rng.randrange(len(content))
    block = content[at : at + rng.randrange(1, _BLOCK_BYTES)]
    return content[:at] + block * rng.choice((2, 2, 3, 50)) + content[at + len(block) :]


def move_block(rng: random.Random, content: bytes, _: bytes) -> bytes:
    at = rng.randrange(len(content))
    block = content[at : at + rng.randrange(1, _BLOCK_BYTES)]
    rest = content[:at] + content[at + len(block) :]
    to = rng.randrange(len(rest) + 1)
    return rest[:to] + block + rest[to:]


def insert_from_other(rng: random.Random, content: bytes, other: bytes) -> bytes:
    at, start = rng.randrange(len(content)), rng.randrange(len(other))
    block = other[start : start + rng.randrange(1, _BLOCK_BYTES)]
    return content[:at] + block + content[at + rng.choice((0, len(block))) :]


def end_as_other(rng: random.Random, content: bytes, other: bytes) -> bytes:
    return content[: rng.randrange(len(content))] + other[rng.randrange(len(other)) :]


BYTES: Final[tuple[Mutation, ...]] = (
    flip_bits,
    set_bytes,
    set_bytes_of_the_start,
    set_number,
    set_number,
    cut,
    delete_block,
    repeat_block,
    move_block,
    insert_from_other,
    end_as_other,
)


def once(rng: random.Random, content: bytes) -> bytes:
    """Return `content` after one mutation; one byte where it was empty."""
    return rng.choice(BYTES)(rng, content, content) if content else bytes((rng.randrange(256),))
