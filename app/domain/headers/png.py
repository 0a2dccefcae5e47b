"""Headers of PNG and APNG files: chunks, frames of the animation, colour profile."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from app.domain.headers.layout import MAX_BLOCKS, Layout, Wanted
from app.domain.headers.memory import decoding_bytes

_SIGNATURE_BYTES = 8
# Channels of a pixel by colour type.
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk. `start` and `end` delimit its data, never past the file. `whole`: data and checksum are complete."""

    kind: bytes
    start: int
    end: int
    whole: bool


@dataclass(slots=True)
class ApngFrame:
    """One frame of an APNG, described by its fcTL chunk, with the spans of its compressed data."""

    width: int
    height: int
    left: int
    top: int
    delay_ms: int
    dispose: int
    blend: int
    data: list[tuple[int, int]] = field(default_factory=list)


def chunks(content: bytes) -> Iterator[Chunk]:
    """Yield the chunks in order, up to IEND or the end of the file."""
    at, end = _SIGNATURE_BYTES, len(content)
    for _ in range(MAX_BLOCKS):
        if at + 8 > end:
            return
        length = int.from_bytes(content[at : at + 4], "big")
        kind = content[at + 4 : at + 8]
        yield Chunk(kind, at + 8, min(at + 8 + length, end), at + 12 + length <= end)
        if kind == b"IEND":
            return
        at += 12 + length
    raise ValueError("too many chunks")


def chunk_is_intact(content: bytes, chunk: Chunk) -> bool:
    """Return whether the checksum of a whole chunk is right."""
    return zlib.crc32(content[chunk.start - 4 : chunk.end]) == int.from_bytes(content[chunk.end : chunk.end + 4], "big")


def read(content: bytes, wanted: Wanted) -> Layout:
    """Return the layout. Raises MALFORMED."""
    if content[12:16] != b"IHDR":
        raise ValueError("no IHDR chunk")
    width, height = struct.unpack_from(">II", content, 16)
    frames, animated = 0, False
    for chunk in chunks(content):
        if chunk.kind == b"acTL":
            animated = True
        elif chunk.kind == b"IDAT" and not animated:
            break
        elif chunk.kind == b"fcTL":
            frames += 1
            if frames > wanted.max_frames:
                break
    count = max(1, frames) if animated else 1
    cost = decoding_bytes("apng" if count > 1 else "png", width * height, (width, height), count, wanted)
    if count > 1:
        # Each frame is copied into its own file, and the data of one frame may be nearly the whole content.
        cost += 3 * len(content)
    if content[28]:
        # An interlaced picture is assembled in the file's pixel format before it becomes RGBA.
        cost += width * height * _pixel_bytes(content[24], content[25])
    return Layout(width, height, count, decoder_bytes=cost)


def _pixel_bytes(bits: int, colour: int) -> int:
    """Return the bytes of a pixel in the file. Unknown colour types count as the largest one."""
    return max(1, _CHANNELS.get(colour, 4) * bits // 8)


def apng_frames(content: bytes, max_frames: int) -> list[ApngFrame]:
    """Return the frames of the animation; empty for a still picture.

    The default image (IDAT) is a frame only if an fcTL chunk precedes it; otherwise browsers never show it. A frame
    that exceeds the canvas or has no data ends the list, as it ends the animation in browsers.
    """
    width, height = struct.unpack_from(">II", content, 16)
    frames: list[ApngFrame] = []
    animated, data_seen = False, False
    for chunk in chunks(content):
        if chunk.kind == b"acTL" and not data_seen:
            animated = True
        elif chunk.kind == b"fcTL" and animated:
            frame = _control(content, chunk)
            beyond = frame.left + frame.width > width or frame.top + frame.height > height
            if beyond or not frame.width or not frame.height or len(frames) > max_frames:
                break
            frames.append(frame)
        elif chunk.kind == b"IDAT":
            data_seen = True
            if not animated:
                return []
            if frames:
                frames[-1].data.append((chunk.start, chunk.end))
        elif chunk.kind == b"fdAT" and frames:
            frames[-1].data.append((chunk.start + 4, chunk.end))
    return [frame for frame in frames if frame.data]


def _control(content: bytes, chunk: Chunk) -> ApngFrame:
    fields = struct.unpack_from(">IIIIHHBB", content[chunk.start : chunk.end], 4)
    width, height, left, top, numerator, denominator, dispose, blend = fields
    return ApngFrame(width, height, left, top, 1000 * numerator // (denominator or 100), dispose, blend)


def picture_end(content: bytes) -> int:
    """Return the offset after IEND, or 0 if the file ends before it. Raises MALFORMED."""
    for chunk in chunks(content):
        if chunk.kind == b"IEND":
            return chunk.end + 4 if chunk.whole else chunk.end
    return 0
