"""PNG and APNG: frames composited as in browsers, colours by code points, orientation.

Skia's wheel reads only still PNGs, so each frame of an animation is passed to it as a separate PNG.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from app.domain.headers.exif import exif_orientation
from app.domain.headers.layout import MALFORMED
from app.domain.headers.png import ApngFrame, apng_frames, chunk_is_intact, chunks
from app.inference.decoding.by_skia import Raster, still
from app.inference.decoding.colour import CodePoints, from_code_points
from app.inference.decoding.hdr import DEFAULT_PEAK_NITS
from app.inference.decoding.pixels import reduced, straight
from app.inference.decoding.png_checksum import wrong_adler
from app.inference.decoding.selection import choose_frames
from app.inference.model_input import Pixels

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Chunks that apply to the pixels of every frame.
_SHARED = frozenset({b"PLTE", b"tRNS", b"iCCP", b"sRGB", b"gAMA", b"cHRM", b"sBIT"})
_DISPOSE_BACKGROUND, _DISPOSE_PREVIOUS = 1, 2
_BLEND_OVER = 1
# Power with which Chromium shows the curves of cameras in a PNG; see `colour`.
_CAMERA_POWER = 2.4
_ROWS_BYTES = 1024 * 1024
_MAX_EXIF_BYTES = 65_536
# Text chunks, which are not needed: libpng takes 0.3 s for each megabyte of them.
_TEXT = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_MAX_TEXT_BYTES = 65_536
# Chunks that define a transfer curve. Primaries (cHRM) do not count without one.
_CURVES = frozenset({b"gAMA", b"sRGB"})


def decode_png(content: bytes, smallest_side: int, most: int, max_frames: int) -> tuple[int, Iterator[Raster]]:
    """Return the number of frames and an iterator over the chosen ones, composited, in sRGB. Raises SkiaRefusal."""
    content = _without(content, _ignored(content))
    animation = apng_frames(content, max_frames)
    if not animation:
        return 1, iter((_still_in_srgb(content, smallest_side),))
    points = _code_points(content)
    chosen = choose_frames([frame.delay_ms for frame in animation], most)
    rasters = _composited(content, animation, chosen, smallest_side, points is None)
    return len(animation), (_coloured(raster, points) for raster in rasters)


def decode_still(content: bytes, smallest_side: int) -> Raster:
    """Return the still picture in sRGB. Raises SkiaRefusal."""
    return _still_in_srgb(_without(content, _ignored(content)), smallest_side)


def _still_in_srgb(content: bytes, smallest_side: int) -> Raster:
    points = _code_points(content)
    return _coloured(_still(content, smallest_side, points is None), points)


def orientation(content: bytes) -> int:
    """Return the EXIF orientation, 1 to 8. Never raises."""
    try:
        for chunk in chunks(content):
            if chunk.kind == b"eXIf":
                return exif_orientation(content[chunk.start : min(chunk.end, chunk.start + _MAX_EXIF_BYTES)])
            if chunk.kind == b"IDAT":
                break
    except MALFORMED:
        return 1
    return 1


def _code_points(content: bytes) -> CodePoints | None:
    """Return primaries, transfer and peak of a cICP chunk, which has precedence over all others, or None if absent."""
    points: tuple[int, int] | None = None
    peak = 0.0
    for chunk in chunks(content):
        if chunk.kind == b"cICP" and chunk.end - chunk.start == 4:
            points = content[chunk.start], content[chunk.start + 1]
        elif chunk.kind == b"cLLI" and chunk.end - chunk.start == 8:
            peak = int.from_bytes(content[chunk.start : chunk.start + 4], "big") / 10_000 or peak
        elif chunk.kind == b"mDCV" and chunk.end - chunk.start == 24 and not peak:
            peak = int.from_bytes(content[chunk.start + 16 : chunk.start + 20], "big") / 10_000
        elif chunk.kind in (b"IDAT", b"PLTE"):
            break
    return CodePoints(*points, peak or DEFAULT_PEAK_NITS, _CAMERA_POWER) if points else None


def _coloured(raster: Raster, points: CodePoints | None) -> Raster:
    if points is None:
        return raster
    return Raster(raster.index, from_code_points(raster.pixels, points), raster.truncated)


def _composited(
    content: bytes, animation: list[ApngFrame], chosen: tuple[int, ...], smallest_side: int, managed: bool
) -> Iterator[Raster]:
    width, height = struct.unpack_from(">II", content, 16)
    canvas = np.zeros((height, width, 4), np.uint8)
    shared = _shared(content)
    wanted = set(chosen)
    for index in range(_key_frame(animation, chosen[0], width, height), chosen[-1] + 1):
        frame = animation[index]
        area = (slice(frame.top, frame.top + frame.height), slice(frame.left, frame.left + frame.width))
        # The first frame has no previous state to restore.
        dispose = _DISPOSE_BACKGROUND if index == 0 and frame.dispose == _DISPOSE_PREVIOUS else frame.dispose
        before = canvas[area].copy() if dispose == _DISPOSE_PREVIOUS else None
        drawn = _still(_as_png(content, frame, shared), 0, managed)
        _draw(canvas[area], drawn.pixels, frame.blend == _BLEND_OVER)
        if index in wanted:
            yield Raster(index, straight(reduced(canvas, smallest_side)), drawn.truncated)
        if before is not None:
            canvas[area] = before
        elif dispose == _DISPOSE_BACKGROUND:
            canvas[area] = 0


def _key_frame(animation: list[ApngFrame], first: int, width: int, height: int) -> int:
    """Return the last frame up to `first` that covers everything drawn before it."""
    for index in range(first, 0, -1):
        frame = animation[index]
        if (frame.width, frame.height) == (width, height) and frame.blend != _BLEND_OVER:
            return index
    return 0


def _draw(canvas: Pixels, pixels: Pixels, over: bool) -> None:
    """Draw straight RGB or RGBA pixels on a premultiplied canvas, a few rows at a time."""
    if pixels.shape[2] == 3:
        canvas[..., :3] = pixels
        canvas[..., 3] = 255
        return
    rows = max(1, _ROWS_BYTES // (8 * pixels.shape[1]))
    for top in range(0, pixels.shape[0], rows):
        part, below = pixels[top : top + rows], canvas[top : top + rows]
        alpha = part[..., 3:].astype(np.uint16)
        drawn = np.concatenate([(part[..., :3] * alpha + 127) // 255, alpha], axis=2)
        if over:
            drawn += (below * (255 - alpha) + 127) // 255
        below[...] = np.minimum(drawn, 255)


def _still(content: bytes, smallest_side: int, managed: bool) -> Raster:
    raster = still(content, smallest_side, managed=managed)
    if not raster.truncated:
        return raster
    checksum_at = wrong_adler(content)
    if not checksum_at:
        return raster
    # Memory was granted for one picture only: the first one is released before the second attempt.
    del raster
    return still(memoryview(content)[:checksum_at], smallest_side, managed=managed)


def _ignored(content: bytes) -> list[tuple[int, int]]:
    """Return the spans of chunks that browsers ignore but Skia reads: long text, primaries without a curve."""
    text, primaries, curve, pixels = [], [], False, False
    for chunk in chunks(content):
        span = chunk.start - 8, chunk.end + 4
        pixels = pixels or chunk.kind == b"IDAT"
        if not chunk.whole:
            break
        if chunk.kind in _TEXT:
            text.append(span)
        elif chunk.kind == b"cHRM":
            primaries.append(span)
        elif chunk.kind in _CURVES and not pixels:
            curve = curve or chunk_is_intact(content, chunk)
    if sum(end - start for start, end in text) <= _MAX_TEXT_BYTES:
        text = []
    return sorted(text if curve else text + primaries)


def _without(content: bytes, spans: list[tuple[int, int]]) -> bytes:
    """Return the content without `spans`, which are in order. Without spans, the content itself."""
    if not spans:
        return content
    starts = [0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), len(content)]
    return b"".join(content[start:end] for start, end in zip(starts, ends, strict=True))


def _shared(content: bytes) -> bytes:
    parts = []
    for chunk in chunks(content):
        if chunk.kind in _SHARED and chunk.whole:
            parts.append(content[chunk.start - 8 : chunk.end + 4])
        elif chunk.kind in (b"IDAT", b"fdAT"):
            break
    return b"".join(parts)


def _as_png(content: bytes, frame: ApngFrame, shared: bytes) -> bytes:
    head = struct.pack(">II", frame.width, frame.height) + content[24:29]
    body = b"".join(content[start:end] for start, end in frame.data)
    return _SIGNATURE + _chunk(b"IHDR", head) + shared + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
