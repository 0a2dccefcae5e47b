"""Headers of AVIF and HEIC files: boxes, the primary picture, its coded size, frames of a sequence, colours."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.domain.headers.layout import MALFORMED, MAX_BOXES, Layout, Wanted
from app.domain.headers.memory import decoding_bytes
from app.domain.headers.video import HEADER_BYTES, Coded, av1_sequence, hevc_configuration

# Boxes that contain needed boxes, with the number of bytes before their children.
_CONTAINERS = {
    **dict.fromkeys((b"iprp", b"ipco", b"moov", b"trak", b"mdia", b"minf", b"stbl"), 0),
    b"meta": 4,
    b"stsd": 8,
    b"av01": 78,
    b"hvc1": 78,
}
# Bound of all lists: a file can declare a huge number of frames or items in a few bytes.
_MAX_ITEMS = 4096


@dataclass(frozen=True, slots=True)
class Box:
    """One box: its kind, the path of the kinds above it, and the span of its content."""

    kind: bytes
    path: tuple[bytes, ...]
    start: int
    end: int


@dataclass(slots=True)
class Picture:
    """Facts from the boxes. Sizes of each kind are collected, because the decoder may meet the largest of them.

    `coded`: sizes in the bitstreams. `shown`: size of the primary picture. `delays_ms`: delays of a sequence's frames.
    `peak_nits`: the brightest light of the picture, else of its mastering display; 0 if unknown.
    """

    shown: tuple[int, int] = (0, 0)
    coded: list[Coded] = field(default_factory=list)
    extents: list[tuple[int, int]] = field(default_factory=list)
    pieces: int = 1
    colours: tuple[int, int] | None = None
    delays_ms: list[int] = field(default_factory=list)
    frames: int = 1
    peak_nits: float = 0.0


def walk(content: bytes) -> Iterator[Box]:
    """Yield the boxes in order, including those inside `_CONTAINERS`. Raises MALFORMED."""
    stack: list[tuple[int, int, tuple[bytes, ...]]] = [(0, len(content), ())]
    boxes = 0
    while stack:
        at, end, path = stack.pop()
        while at + 8 <= end:
            boxes += 1
            if boxes > MAX_BOXES:
                raise ValueError("too many boxes")
            size, kind, head = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8], 8
            if size == 1:
                size, head = int.from_bytes(content[at + 8 : at + 16], "big"), 16
            stop = end if size == 0 else min(at + size, end)
            if size != 0 and size < head:
                raise ValueError("a box of impossible length")
            yield Box(kind, path, at + head, stop)
            if kind in _CONTAINERS and len(path) < 8:
                stack.append((at + head + _CONTAINERS[kind], stop, (*path, kind)))
            at = stop


def read_picture(content: bytes) -> Picture:
    """Return the facts from the boxes. Raises MALFORMED."""
    picture = Picture()
    properties: list[Box] = []
    associations: dict[int, list[int]] = {}
    primary, spans = 0, {}
    scale, delays = 1000, None
    for box in walk(content):
        if box.path[-1:] == (b"ipco",):
            properties.append(box)
        match box.kind:
            case b"pitm":
                primary = _number(content, box.start + 4, 2 if content[box.start] == 0 else 4)
            case b"ipma":
                associations.update(_associations(content, box))
            case b"iloc":
                spans = _locations(content, box)
            case b"ispe":
                picture.extents.append(struct.unpack_from(">II", content, box.start + 4))
            case b"av1C":
                _add(picture, av1_sequence, content[box.start + 4 : min(box.end, box.start + 4 + HEADER_BYTES)])
            case b"hvcC":
                _add(picture, hevc_configuration, content[box.start : min(box.end, box.start + 65_536)])
            case b"iref":
                picture.pieces = max(picture.pieces, _pieces(content, box))
            case b"mdhd":
                wide = content[box.start] == 1
                scale = _number(content, box.start + (20 if wide else 12), 4) or 1000
            case b"stts" if delays is None:
                delays = _delays(content, box, scale)
            case b"stsz" if picture.frames == 1:
                picture.frames = max(1, _number(content, box.start + 8, 4))
            case b"stco":
                start = _number(content, box.start + 8, 4)
                _add(picture, av1_sequence, content[start : start + HEADER_BYTES])
            case b"co64":
                start = _number(content, box.start + 8, 8)
                _add(picture, av1_sequence, content[start : start + HEADER_BYTES])
            case b"colr" if b"moov" in box.path and content[box.start : box.start + 4] == b"nclx":
                picture.colours = struct.unpack_from(">HH", content, box.start + 4)
    for start, size in spans.values():
        _add(picture, av1_sequence, content[start : start + min(size, HEADER_BYTES)])
    picture.delays_ms = delays or []
    _primary(
        content, picture, [properties[at - 1] for at in associations.get(primary, []) if 0 < at <= len(properties)]
    )
    return picture


def read(content: bytes, wanted: Wanted, kind: str) -> Layout:
    """Return the layout of an AVIF or HEIC (`kind`). Raises MALFORMED."""
    picture = read_picture(content)
    width, height = picture.shown
    if not width or not height:
        raise ValueError("no picture size")
    # Decoders differ in the size that they trust, so the largest one bounds the allocation.
    sizes = [(width, height), *((coded.width, coded.height) for coded in picture.coded), *picture.extents]
    decoded = max(sizes, key=lambda size: size[0] * size[1])
    pieces = sum(coded.width * coded.height for coded in picture.coded[:_MAX_ITEMS]) if picture.pieces > 1 else 0
    decoder = "avif animated" if picture.frames > 1 and kind == "avif" else kind
    cost = decoding_bytes(decoder, decoded[0] * decoded[1] + pieces // 4, (width, height), picture.frames, wanted)
    return Layout(width, height, picture.frames, *decoded, decoder_bytes=cost)


def _primary(content: bytes, picture: Picture, properties: list[Box]) -> None:
    """Set size and colours of the primary picture."""
    for box in properties:
        if box.kind == b"ispe":
            picture.shown = struct.unpack_from(">II", content, box.start + 4)
        elif box.kind == b"colr" and content[box.start : box.start + 4] == b"nclx" and picture.colours is None:
            picture.colours = struct.unpack_from(">HH", content, box.start + 4)
        elif box.kind == b"clli":
            picture.peak_nits = float(_number(content, box.start, 2)) or picture.peak_nits
        elif box.kind == b"mdcv" and not picture.peak_nits:
            picture.peak_nits = _number(content, box.start + 16, 4) / 10_000
    if picture.shown == (0, 0):
        sizes = [*picture.extents, *((coded.width, coded.height) for coded in picture.coded)]
        picture.shown = max(sizes, key=lambda size: size[0] * size[1], default=(0, 0))
    if picture.colours is None and picture.coded:
        picture.colours = (picture.coded[0].primaries, picture.coded[0].transfer)


def _add(picture: Picture, reader: object, content: bytes) -> None:
    assert callable(reader)
    try:
        coded = reader(content)
    except MALFORMED:
        return  # not a bitstream of this kind, such as EXIF or the description of a grid
    if coded is not None:
        picture.coded.append(coded)


def _number(content: bytes, at: int, size: int) -> int:
    if at + size > len(content):
        raise ValueError("the file ends inside its header")
    return int.from_bytes(content[at : at + size], "big")


def _associations(content: bytes, box: Box) -> dict[int, list[int]]:
    version, flags = content[box.start], content[box.start + 3]
    at, associations = box.start + 8, {}
    for _ in range(min(_number(content, box.start + 4, 4), _MAX_ITEMS)):
        wide = 2 if version < 1 else 4
        picture, count = _number(content, at, wide), _number(content, at + wide, 1)
        at += wide + 1
        size = 2 if flags & 1 else 1
        associations[picture] = [
            _number(content, at + size * n, size) & (0x7FFF if flags & 1 else 0x7F) for n in range(count)
        ]
        at += size * count
    return associations


def _locations(content: bytes, box: Box) -> dict[int, tuple[int, int]]:
    """Return the first extent of each item that lies in the file itself."""
    version = content[box.start]
    offset_size, length_size = content[box.start + 4] >> 4, content[box.start + 4] & 15
    base_size, index_size = content[box.start + 5] >> 4, content[box.start + 5] & 15 if version else 0
    wide = 4 if version == 2 else 2
    at = box.start + 6 + wide
    locations = {}
    for _ in range(min(_number(content, box.start + 6, wide), _MAX_ITEMS)):
        name = _number(content, at, wide)
        at += wide
        method = _number(content, at, 2) & 15 if version else 0
        at += (2 if version else 0) + 2
        base = _number(content, at, base_size)
        at += base_size
        extents = _number(content, at, 2)
        at += 2
        if extents and method == 0:
            start = base + _number(content, at + index_size, offset_size)
            size = _number(content, at + index_size + offset_size, length_size)
            locations[name] = (start, size or HEADER_BYTES)
        at += extents * (index_size + offset_size + length_size)
    return locations


def _pieces(content: bytes, box: Box) -> int:
    """Return the number of pieces of the file's largest grid."""
    wide = 4 if content[box.start] else 2
    at, most = box.start + 4, 1
    for _ in range(_MAX_ITEMS):
        if at + 8 + wide + 2 > box.end:
            break
        size, kind = _number(content, at, 4), content[at + 4 : at + 8]
        if kind == b"dimg":
            most = max(most, _number(content, at + 8 + wide, 2))
        if size < 8:
            break
        at += size
    return most


def _delays(content: bytes, box: Box, scale: int) -> list[int]:
    delays: list[int] = []
    for n in range(min(_number(content, box.start + 4, 4), _MAX_ITEMS)):
        count, length = struct.unpack_from(">II", content, box.start + 8 + 8 * n)
        delays.extend([1000 * length // scale] * min(count, _MAX_ITEMS - len(delays)))
        if len(delays) >= _MAX_ITEMS:
            break
    return delays


def ends_early(content: bytes) -> bool:
    """Tell whether the last box on the outermost level is longer than the file."""
    at = 0
    for _ in range(MAX_BOXES):
        if at + 8 > len(content):
            return at != len(content)
        size = int.from_bytes(content[at : at + 4], "big")
        if size == 1:
            size = int.from_bytes(content[at + 8 : at + 16], "big")
        if size < 8:
            return False
        at += size
    return False
