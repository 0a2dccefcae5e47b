"""What an image may be, read from its header alone: formats, limits, and the stable codes of rejections.

Everything here looks at a few bytes of the content and allocates nothing that the content could ask for, so that limits
hold before any decoder sees a hostile file. docs/images.md lists the codes for users.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class ImageFormat(StrEnum):
    """The formats that are scored, as predictions name them."""

    JPEG = "jpeg"
    PNG = "png"
    WEBP = "webp"
    GIF = "gif"
    BMP = "bmp"
    TIFF = "tiff"
    AVIF = "avif"
    HEIC = "heic"
    ICO = "ico"
    CUR = "cur"
    JXL = "jxl"
    JP2 = "jp2"


class RejectReason(StrEnum):
    """Why an upload is `rejected`. Codes are never renamed: consumers match on them."""

    EMPTY = "empty"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    TOO_LARGE_SIDE = "too_large_side"
    TOO_MANY_FRAMES = "too_many_frames"
    UNSUPPORTED_FORMAT = "unsupported_format"
    TOO_COMPLEX = "too_complex"
    UNDECODABLE = "undecodable"
    TRUNCATED = "truncated"
    DECODE_TIMEOUT = "decode_timeout"
    DECODER_CRASHED = "decoder_crashed"
    TOO_MUCH_MEMORY = "too_much_memory"
    TOO_MANY_RENDITIONS = "too_many_renditions"
    ARCHIVED = "archived"
    FORBIDDEN = "forbidden"


class GoneReason(StrEnum):
    """Why an upload is `gone`."""

    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What an image may be; the numbers are those of LimitSettings."""

    max_bytes: int
    max_pixels: int
    max_side: int
    max_frames: int


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """What the header says. `frames` is exact up to one past the limit that was asked for, and 1 where unknown.

    `decoder_bytes`: upper bound of what the decoder allocates at once, by the sizes that the decoder will see.
    """

    format: ImageFormat
    width: int
    height: int
    frames: int
    decoder_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Rejection:
    """An image that is not scored, and why; sizes are 0 where the header did not tell them."""

    reason: RejectReason
    detail: str
    format: str = ""
    width: int = 0
    height: int = 0


_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
# Start-of-frame markers of JPEG: all of 0xC0-0xCF but DHT, JPG and DAC.
_JPEG_FRAMES = frozenset(set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC})
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
# Boxes of AVIF and HEIC that hold the boxes we look for, with the bytes before their children.
_CONTAINERS = {b"meta": 4, b"iprp": 0, b"ipco": 0}
# No encoder writes as many; they bound the time that a header made to be slow can take (each step is under 1 us).
_MAX_BLOCKS = 500_000
_MAX_BOXES = 4096
# What reading a header raises on malformed bytes; a wild 64-bit offset is an OverflowError, an ArithmeticError.
_MALFORMED = (struct.error, ArithmeticError, LookupError, ValueError)
# Each scan of a progressive JPEG costs a pass over the whole picture; encoders write about ten.
_MAX_SCANS = 100


def sniff(content: bytes) -> ImageFormat | None:
    """Return the format that the first bytes announce, or None. The key's suffix and content type are not asked."""
    if content.startswith(b"\xff\xd8\xff"):
        return ImageFormat.JPEG
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        return ImageFormat.PNG
    if content.startswith((b"GIF87a", b"GIF89a")):
        return ImageFormat.GIF
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return ImageFormat.WEBP
    if content.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return ImageFormat.TIFF
    if content.startswith(b"BM") and len(content) >= 26:
        return ImageFormat.BMP
    if content[4:8] == b"ftyp":
        return _sniff_brands(content)
    return None


def _sniff_brands(content: bytes) -> ImageFormat | None:
    size = min(int.from_bytes(content[:4], "big"), 256, len(content))
    brands = {content[8:12], *(content[at : at + 4] for at in range(16, size - 3, 4))}
    if brands & _AVIF_BRANDS:
        return ImageFormat.AVIF
    return ImageFormat.HEIC if brands & _HEIC_BRANDS else None


def inspect(content: bytes, limits: ImageLimits) -> ImageHeader | Rejection:
    """Return what the header says, or the rejection of an image beyond `limits` or without a readable header.

    Time is linear in the number of blocks that the file really holds and stops at `max_frames`; memory is constant.
    Never raises for what is in `content`.
    """
    if not content:
        return Rejection(RejectReason.EMPTY, "the object holds no bytes")
    if len(content) > limits.max_bytes:
        return Rejection(RejectReason.TOO_MANY_BYTES, f"{len(content)} bytes, at most {limits.max_bytes}")
    found = sniff(content)
    if found is None:
        return Rejection(RejectReason.UNSUPPORTED_FORMAT, f"starts with {content[:8].hex()}")
    try:
        header = _read(found, content, limits.max_frames)
    except _MALFORMED as error:
        return Rejection(RejectReason.UNDECODABLE, f"malformed {found.value} header: {error}", found.value)
    if found is ImageFormat.JPEG and (scans := content.count(b"\xff\xda")) > _MAX_SCANS:
        detail = f"{scans} scans, at most {_MAX_SCANS}"
        return Rejection(RejectReason.TOO_COMPLEX, detail, found.value, header.width, header.height)
    return check(header, limits) or header


def check(header: ImageHeader, limits: ImageLimits) -> Rejection | None:
    """Return the rejection of a header beyond `limits`, or None."""
    width, height = header.width, header.height

    def reject(reason: RejectReason, detail: str) -> Rejection:
        return Rejection(reason, detail, header.format.value, max(width, 0), max(height, 0))

    if width <= 0 or height <= 0:
        return reject(RejectReason.UNDECODABLE, f"a picture of {width} x {height} pixels")
    if max(width, height) > limits.max_side:
        return reject(RejectReason.TOO_LARGE_SIDE, f"{width} x {height} pixels, sides at most {limits.max_side}")
    if width * height > limits.max_pixels:
        return reject(RejectReason.TOO_MANY_PIXELS, f"{width} x {height} pixels, at most {limits.max_pixels} in all")
    if header.frames > limits.max_frames:
        return reject(RejectReason.TOO_MANY_FRAMES, f"more than {limits.max_frames} frames")
    return None


def _read(found: ImageFormat, content: bytes, max_frames: int) -> ImageHeader:
    match found:
        case ImageFormat.JPEG:
            width, height = _jpeg_size(content)
            return ImageHeader(found, width, height, 1)
        case ImageFormat.PNG:
            if content[12:16] != b"IHDR":
                raise ValueError("no IHDR chunk")
            width, height = struct.unpack_from(">II", content, 16)
            return ImageHeader(found, width, height, _png_frames(content))
        case ImageFormat.GIF:
            return _gif(content, max_frames)
        case ImageFormat.BMP:
            return _bmp(content)
        case ImageFormat.WEBP:
            return _webp(content, max_frames)
        case ImageFormat.TIFF:
            return _tiff(content, max_frames)
        case ImageFormat.AVIF | ImageFormat.HEIC:
            width, height = _largest_extent(content)
            return ImageHeader(found, width, height, 1)
        case ImageFormat.ICO | ImageFormat.CUR | ImageFormat.JXL | ImageFormat.JP2:
            raise ValueError("not read yet")


def _jpeg_segments(content: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield (marker, start, end) of the segments before the picture's own data."""
    at = 2
    for _ in range(_MAX_BLOCKS):
        if at >= len(content) - 3:
            return
        if content[at] != 0xFF:
            raise ValueError("bytes between segments")
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _JPEG_BARE:
            at += 2
            continue
        length = int.from_bytes(content[at + 2 : at + 4], "big")
        if length < 2:
            raise ValueError("a segment of impossible length")
        yield marker, at + 4, at + 2 + length
        if marker == 0xDA:
            return
        at += 2 + length
    raise ValueError("too many segments")


def _jpeg_size(content: bytes) -> tuple[int, int]:
    for marker, start, _ in _jpeg_segments(content):
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", content, start + 1)
            return width, height
    raise ValueError("no frame header")


def jpeg_orientation(content: bytes) -> int:
    """Return the EXIF orientation of a JPEG, 1 to 8; 1 where there is none or it cannot be read. Never raises."""
    try:
        for marker, start, end in _jpeg_segments(content):
            if marker == 0xE1 and content[start : start + 6] == b"Exif\0\0":
                return _exif_orientation(content[start + 6 : end])
    except _MALFORMED:
        return 1
    return 1


def _exif_orientation(exif: bytes) -> int:
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None:
        return 1
    (at,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, at)
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, _, value = struct.unpack_from(order + "HHIH", exif, entry)
        if tag == 0x0112 and kind == 3:
            return int(value) if 1 <= value <= 8 else 1
    return 1


def _png_frames(content: bytes) -> int:
    # acTL must come before IDAT; eight chunks of metadata before it are more than any encoder writes.
    at = content.find(b"acTL", 33, 1 << 20)
    if at < 0 or 0 <= content.find(b"IDAT", 33, 1 << 20) < at:
        return 1
    return max(1, int(struct.unpack_from(">I", content, at + 4)[0]))


def _gif(content: bytes, max_frames: int) -> ImageHeader:
    width, height, flags = struct.unpack_from("<HHB", content, 6)
    at = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
    frames = 0
    end = len(content)
    left_blocks = [_MAX_BLOCKS]
    # A cut-off tail ends the count; whether the first frame is whole is the decoder's question.
    while at < end and frames <= max_frames:
        block = content[at]
        if block == 0x21:
            at = _skip_sub_blocks(content, at + 2, left_blocks)
        elif block == 0x2C and at + 10 <= end:
            left, top, frame_width, frame_height, flags = struct.unpack_from("<HHHHB", content, at + 1)
            if frames == 0:  # decoders enlarge the canvas to hold a first frame that sticks out of it
                width, height = max(width, left + frame_width), max(height, top + frame_height)
            frames += 1
            after_table = at + 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
            at = _skip_sub_blocks(content, after_table, left_blocks)
        else:
            break
    if frames == 0:
        raise ValueError("no frame")
    return ImageHeader(ImageFormat.GIF, width, height, frames)


def _skip_sub_blocks(content: bytes, at: int, left_blocks: list[int]) -> int:
    end = len(content)
    while at < end and content[at]:
        at += content[at] + 1
        left_blocks[0] -= 1
        if left_blocks[0] < 0:
            raise ValueError("too many blocks")
    return at + 1


def _bmp(content: bytes) -> ImageHeader:
    (size,) = struct.unpack_from("<I", content, 14)
    width, height = struct.unpack_from("<HH" if size == 12 else "<ii", content, 18)
    return ImageHeader(ImageFormat.BMP, width, abs(height), 1)


def _webp(content: bytes, max_frames: int) -> ImageHeader:
    kind = content[12:16]
    if kind == b"VP8X":
        width = int.from_bytes(content[24:27], "little") + 1
        height = int.from_bytes(content[27:30], "little") + 1
        frames = _webp_frames(content, max_frames) if content[20] & 2 else 1
        return ImageHeader(ImageFormat.WEBP, width, height, frames)
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", content, 21)
        return ImageHeader(ImageFormat.WEBP, (bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1, 1)
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", content, 26)
        return ImageHeader(ImageFormat.WEBP, width & 0x3FFF, height & 0x3FFF, 1)
    raise ValueError("no VP8 chunk")


def _webp_frames(content: bytes, max_frames: int) -> int:
    at, frames = 30, 0
    for _ in range(_MAX_BLOCKS):
        if at + 8 > len(content) or frames > max_frames:
            break
        frames += content[at : at + 4] == b"ANMF"
        size = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + size + (size & 1)
    return max(frames, 1)


def _tiff(content: bytes, max_frames: int) -> ImageHeader:
    order = "<" if content[:2] == b"II" else ">"
    big = content[2:4] in (b"+\0", b"\0+")
    pointer, number, entry_bytes = ("Q", "Q", 20) if big else ("I", "H", 12)
    (at,) = struct.unpack_from(order + pointer, content, 8 if big else 4)
    size: dict[int, int] = {}
    frames = 0
    seen: set[int] = set()
    while at and frames <= max_frames:
        if at in seen:
            raise ValueError("a circle of directories")
        if at >= len(content):
            raise ValueError("a directory outside the file")
        seen.add(at)
        (count,) = struct.unpack_from(order + number, content, at)
        first = at + struct.calcsize(order + number)
        after = first + count * entry_bytes
        if frames == 0:
            for entry in range(first, min(after, first + 4096 * entry_bytes), entry_bytes):
                tag, kind = struct.unpack_from(order + "HH", content, entry)
                if tag in (256, 257):
                    value = {3: "H", 4: "I", 16: "Q"}.get(kind, "I")
                    (size[tag],) = struct.unpack_from(order + value, content, entry + (12 if big else 8))
        frames += 1
        if after + struct.calcsize(order + pointer) > len(content):
            break
        (at,) = struct.unpack_from(order + pointer, content, after)
    if frames == 0 or 256 not in size or 257 not in size:
        raise ValueError("no size in the first directory")
    return ImageHeader(ImageFormat.TIFF, size[256], size[257], frames)


def _largest_extent(content: bytes) -> tuple[int, int]:
    """Return the largest `ispe` of the file: the primary picture's is never larger."""
    best = (0, 0)
    spans = [(0, len(content))]
    boxes = 0
    while spans:
        at, end = spans.pop()
        while at + 8 <= end:
            boxes += 1
            if boxes > _MAX_BOXES:
                raise ValueError("too many boxes")
            size, kind, head = int.from_bytes(content[at : at + 4], "big"), content[at + 4 : at + 8], 8
            if size == 1:
                size, head = int.from_bytes(content[at + 8 : at + 16], "big"), 16
            stop = end if size == 0 else min(at + size, end)
            if size != 0 and size < head:
                raise ValueError("a box of impossible length")
            if kind == b"ispe":
                width, height = struct.unpack_from(">II", content, at + head + 4)
                if width * height > best[0] * best[1]:
                    best = (width, height)
            elif kind in _CONTAINERS:
                spans.append((at + head + _CONTAINERS[kind], stop))
            at = stop
    if best == (0, 0):
        raise ValueError("no picture size")
    return best


def is_cut_off(content: bytes, found: ImageFormat) -> bool:
    """Whether the file is shorter than its own frame says. False where the format does not tell."""
    match found:
        case ImageFormat.WEBP:
            return int.from_bytes(content[4:8], "little") + 8 > len(content)
        case ImageFormat.PNG:
            return b"IEND" not in content[-4096:] and b"IEND" not in content
        case ImageFormat.AVIF | ImageFormat.HEIC:
            at = 0
            for _ in range(_MAX_BOXES):
                if at + 8 > len(content):
                    return at > len(content)
                size = int.from_bytes(content[at : at + 4], "big")
                if size == 1:
                    size = int.from_bytes(content[at + 8 : at + 16], "big")
                if size < 8:
                    return False
                at += size
            return False
        case _:
            return False
