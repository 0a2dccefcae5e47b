"""Mutations of images that keep what a reader checks first, so that it gets further: PNG, JPEG, ISO boxes."""

from __future__ import annotations

import random
import zlib
from typing import Final

from tests.fuzz import mutations
from tests.fuzz.mutations import Mutation, once

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
            return zlib.compress(once(rng, zlib.decompress(body)), 1)
        except zlib.error:
            pass
    return once(rng, body)


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
            body = once(rng, body)[:65_533]
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
        return once(rng, content)
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
        body = once(rng, body)
    return content[:at] + (8 + len(body)).to_bytes(4, "big") + kind + body + content[end:]


IMAGES: Final[tuple[Mutation, ...]] = (*mutations.BYTES, change_png_chunk, change_jpeg_segment, change_box, change_box)
