"""AVIF by hand: the boxes of a still picture around coded AV1, with any properties and any references."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Item:
    """One item of the file; `properties` are whole boxes, `essential` the kinds that a reader must understand."""

    kind: bytes
    body: bytes
    properties: tuple[bytes, ...] = ()
    hidden: bool = False
    refers: tuple[tuple[bytes, tuple[int, ...]], ...] = field(default=())


def box(kind: bytes, body: bytes) -> bytes:
    """Return one box."""
    return struct.pack(">I", 8 + len(body)) + kind + body


def full(kind: bytes, body: bytes, version: int = 0, flags: int = 0) -> bytes:
    """Return one box with version and flags."""
    return box(kind, struct.pack(">I", version << 24 | flags) + body)


def ispe(width: int, height: int) -> bytes:
    """Return the size of an item."""
    return full(b"ispe", struct.pack(">II", width, height))


def nclx(primaries: int, transfer: int, matrix: int, full_range: bool = True) -> bytes:
    """Return colour by code points (ITU-T H.273)."""
    return box(b"colr", b"nclx" + struct.pack(">HHHB", primaries, transfer, matrix, full_range << 7))


def profile(icc: bytes) -> bytes:
    """Return colour by an ICC profile."""
    return box(b"colr", b"prof" + icc)


def walk(content: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, int, int]]:
    """Yield (kind, start of the body, end) of the boxes side by side."""
    at, stop = start, len(content) if end is None else end
    while at + 8 <= stop:
        (size,) = struct.unpack_from(">I", content, at)
        yield content[at + 4 : at + 8], at + 8, at + size
        at += size


def find(content: bytes, *path: bytes) -> bytes:
    """Return the body of the first box at `path`; `meta` has version and flags before its children."""
    start, end = 0, len(content)
    for name in path:
        start, end = next((left, right) for kind, left, right in walk(content, start, end) if kind == name)
        start += 4 if name == b"meta" else 0
    return content[start:end]


def avif(*items: Item, primary: int = 1, brands: bytes = b"avifmif1miaf", extra: bytes = b"") -> bytes:
    """Return a whole file; items are numbered from 1, `extra` follows the media data."""
    boxes = list(dict.fromkeys(one for item in items for one in item.properties))
    ftyp = box(b"ftyp", brands[:4] + bytes(4) + brands)
    meta = _meta(items, boxes, primary, 0)
    meta = _meta(items, boxes, primary, len(ftyp) + len(meta) + 8)
    return ftyp + meta + box(b"mdat", b"".join(item.body for item in items)) + extra


def _meta(items: tuple[Item, ...], boxes: list[bytes], primary: int, media_at: int) -> bytes:
    infos, places, links, references = b"", b"", b"", b""
    at = media_at
    for number, item in enumerate(items, 1):
        infos += full(b"infe", struct.pack(">HH4s", number, 0, item.kind) + b"\0", 2, int(item.hidden))
        places += struct.pack(">HHHII", number, 0, 1, at, len(item.body))
        at += len(item.body)
        links += struct.pack(">HB", number, len(item.properties))
        for one in item.properties:
            essential = one[4:8] in (b"av1C", b"irot", b"imir", b"clap")
            links += bytes((essential << 7 | boxes.index(one) + 1,))
        for kind, targets in item.refers:
            listed = b"".join(struct.pack(">H", target) for target in targets)
            references += box(kind, struct.pack(">HH", number, len(targets)) + listed)
    body = full(b"hdlr", bytes(4) + b"pict" + bytes(12) + b"\0")
    body += full(b"pitm", struct.pack(">H", primary))
    body += full(b"iloc", struct.pack(">HH", 0x4400, len(items)) + places)
    body += full(b"iinf", struct.pack(">H", len(items)) + infos)
    if references:
        body += full(b"iref", references)
    body += box(b"iprp", box(b"ipco", b"".join(boxes)) + full(b"ipma", struct.pack(">I", len(items)) + links))
    return full(b"meta", body)
