"""Headers of JPEG files: segments as libjpeg finds them, scans, orientation, colour profile, end of the picture."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from app.domain.headers.exif import exif_orientation
from app.domain.headers.layout import MALFORMED, MAX_BLOCKS, Layout, Wanted
from app.domain.headers.memory import jpeg_bytes

# Start-of-frame markers: 0xC0-0xCF except DHT, JPG and DAC.
_FRAMES = frozenset(set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC})
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
_START_OF_SCAN = 0xDA
_END = 0xD9
# A marker inside the data of a scan: neither a stuffed zero, nor a restart, nor a fill byte.
_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """Facts before the first scan. `buffered`: the decoder keeps all coefficients, as several scans refine them."""

    width: int
    height: int
    components: int
    coefficients: int
    progressive: bool
    buffered: bool
    first_scan: int


def segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of the segments up to the first scan. Stray bytes between segments are skipped.

    libjpeg, and therefore every browser, searches for the next marker in the same way.
    """
    at = 2
    for _ in range(MAX_BLOCKS):
        at = content.find(b"\xff", at)
        if at < 0 or at + 3 >= len(content):
            return
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0 or marker in _BARE:
            at += 2
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if length < 2:
            raise ValueError("a segment of impossible length")
        yield marker, at + 4, at + 2 + length
        if marker in (_START_OF_SCAN, _END):
            return
        at += 2 + length
    raise ValueError("too many segments")


def read_header(content: bytes) -> JpegHeader:
    """Return the facts before the first scan. Raises MALFORMED if there is no frame header."""
    frame: tuple[int, int, int, int, int] | None = None
    for marker, start, end in segments(content):
        if marker in _FRAMES and frame is None:
            height, width, components = struct.unpack_from(">HHB", content, start + 1)
            frame = (marker, width, height, components, _coefficients(content, start, width, height, components))
        elif marker == _START_OF_SCAN:
            if frame is None:
                break
            marker, width, height, components, coefficients = frame
            progressive = marker in _PROGRESSIVE
            buffered = progressive or content[start] < components
            return JpegHeader(width, height, components, coefficients, progressive, buffered, end)
    if frame is None:
        raise ValueError("no frame header")
    marker, width, height, components, coefficients = frame
    return JpegHeader(width, height, components, coefficients, marker in _PROGRESSIVE, True, len(content))


def _coefficients(content: bytes, start: int, width: int, height: int, components: int) -> int:
    """Return the number of coefficients of the whole picture, each component at its own sampling."""
    if not 1 <= components <= 4:
        raise ValueError(f"{components} components")
    sampling = [(content[at] >> 4, content[at] & 15) for at in range(start + 7, start + 7 + 3 * components, 3)]
    if any(not (1 <= h <= 4 and 1 <= v <= 4) for h, v in sampling):
        raise ValueError("impossible sampling factors")
    across, down = max(h for h, _ in sampling), max(v for _, v in sampling)
    blocks = sum(-(-width * h // (8 * across)) * -(-height * v // (8 * down)) for h, v in sampling)
    return blocks * 64


def _scans(content: bytes, header: JpegHeader) -> tuple[int, int]:
    """Return the number of scans that a decoder reads, and the end of the picture (0 if there is no end marker)."""
    scans, at = 1, header.first_scan
    for _ in range(MAX_BLOCKS):
        match = _MARKER.search(content, at)
        if match is None:
            return scans, 0
        marker, at = content[match.start() + 1], match.end()
        if marker == _END:
            return scans, at
        if marker in _BARE:
            continue
        scans += marker == _START_OF_SCAN
        at += int.from_bytes(content[at : at + 2], "big")
    raise ValueError("too many segments")


def read(content: bytes, wanted: Wanted) -> tuple[Layout, int]:
    """Return the layout and the number of scans. Raises MALFORMED."""
    header = read_header(content)
    width, height = header.width, header.height
    scans = _scans(content, header)[0] if header.buffered else 1
    # Coefficients are kept at full size at every scale; only pictures of one scan are read at a reduced scale.
    scale = 1 if header.buffered else reading_scale(width, height, wanted.smallest_side)
    decoded = (-(-width // scale), -(-height // scale))
    own_scale = reading_scale(width, height, wanted.smallest_side)
    output = -(-width // own_scale) * -(-height // own_scale)
    coefficients = header.coefficients if header.buffered else 0
    layout = Layout(
        width, height, 1, *decoded, scans * width * height if header.buffered else 0, jpeg_bytes(output, coefficients)
    )
    return layout, scans


def reading_scale(width: int, height: int, smallest_side: int) -> int:
    """Return the factor (1, 2, 4 or 8) by which libjpeg may reduce: the short side stays at least `smallest_side`."""
    if not smallest_side:
        return 1
    return next((scale for scale in (8, 4, 2) if min(-(-width // scale), -(-height // scale)) >= smallest_side), 1)


def picture_end(content: bytes) -> int:
    """Return the offset after the end marker, or 0 if there is none. Never raises."""
    try:
        return _scans(content, read_header(content))[1]
    except MALFORMED:
        return 0


def orientation(content: bytes) -> int:
    """Return the EXIF orientation, 1 to 8, or 1 if it is absent or unreadable. Never raises."""
    try:
        for marker, start, end in segments(content):
            # Chromium ignores the padding byte of the prefix.
            if marker == 0xE1 and content[start : start + 5] == b"Exif\0":
                return exif_orientation(content[start + 6 : end])
    except MALFORMED:
        return 1
    return 1


def colour_profile(content: bytes) -> bytes:
    """Return the ICC profile, joined from its segments; empty if a part is missing. Never raises."""
    parts: dict[int, bytes] = {}
    count = 0
    try:
        for marker, start, end in segments(content):
            if marker == 0xE2 and content[start : start + 12] == b"ICC_PROFILE\0":
                number, count = content[start + 12], content[start + 13]
                parts.setdefault(number, content[start + 14 : end])
    except MALFORMED:
        return b""
    if not parts or sorted(parts) != list(range(1, count + 1)):
        return b""
    return b"".join(parts[number] for number in sorted(parts))
