"""Formats and limits of images, checked on the header alone, and the stable codes of rejections.

The functions examine a few bytes of the content and allocate nothing whose size the content chooses. So the limits hold
before a decoder sees a hostile file. docs/images.md lists the codes for users.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from app.domain.headers import bmp, boxes, gif, jp2, jpeg, jxl, png, tiff, webp
from app.domain.headers.layout import MALFORMED, Layout, Wanted


class ImageFormat(StrEnum):
    """Formats that are scored, as named in predictions."""

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
    """Reasons for the outcome `rejected`. Codes are never renamed: consumers depend on them."""

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
    """Reasons for the outcome `gone`. Codes are never renamed."""

    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """Limits of an image; the numbers come from LimitSettings."""

    max_bytes: int
    max_pixels: int
    max_side: int
    max_frames: int


@dataclass(frozen=True, slots=True)
class ImageHeader:
    """Facts from the header. `frames` is exact up to the requested limit plus one, and 1 if unknown.

    `decoder_bytes`: upper bound of the memory that the decoder holds at once. `decoded_width`, `decoded_height`: the
    decoded size if it differs from `width` x `height`, else 0. It is smaller for a JPEG that is read at a reduced
    scale, and larger for a file whose parts contradict each other.
    """

    format: ImageFormat
    width: int
    height: int
    frames: int
    decoder_bytes: int = 0
    decoded_width: int = 0
    decoded_height: int = 0


@dataclass(frozen=True, slots=True)
class Rejection:
    """Reason for which an image is not scored. Sizes are 0 if the header did not contain them."""

    reason: RejectReason
    detail: str
    format: str = ""
    width: int = 0
    height: int = 0


_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})
_AVIF_BRANDS = frozenset({b"avif", b"avis"})
# Each scan of a progressive JPEG costs a pass over the whole picture; encoders write about ten.
_MAX_SCANS = 100
# Bound of the pixels that decoding processes in all passes: 3.4 ns each, so at most 3.4 s (bench/decoder_memory.py).
# Ten scans of 64 megapixels are accepted, a hundred are not.
_MAX_WORK_PIXELS = 1_000_000_000


def sniff(content: bytes) -> ImageFormat | None:
    """Return the format indicated by the first bytes, or None. The key's suffix and the content type are ignored."""
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
    if content.startswith(b"\0\0\x01\0") and len(content) >= 22 and content[4:6] != b"\0\0":
        return ImageFormat.ICO
    if content.startswith(b"\0\0\x02\0") and len(content) >= 22 and content[4:6] != b"\0\0":
        return ImageFormat.CUR
    if content.startswith((jxl.CODESTREAM, jxl.CONTAINER)):
        return ImageFormat.JXL
    if content.startswith(jp2.CODESTREAM) or content[4:12] == b"jP  \r\n\x87\n":
        return ImageFormat.JP2
    if content[4:8] == b"ftyp":
        return _sniff_brands(content)
    return None


def _sniff_brands(content: bytes) -> ImageFormat | None:
    size = min(int.from_bytes(content[:4], "big"), 256, len(content))
    brands = {content[8:12], *(content[at : at + 4] for at in range(16, size - 3, 4))}
    if brands & _AVIF_BRANDS:
        return ImageFormat.AVIF
    return ImageFormat.HEIC if brands & _HEIC_BRANDS else None


def inspect(content: bytes, limits: ImageLimits, wanted: Wanted | None = None) -> ImageHeader | Rejection:
    """Return the facts from the header, or the rejection of an image beyond `limits` or without a readable header.

    `wanted`: options of decoding (default: unreduced, one frame). Limits of size apply to the decoded size. Time is
    linear in the number of blocks in the file and bounded by `max_frames`; memory is constant. Never raises, whatever
    `content` is.
    """
    if not content:
        return Rejection(RejectReason.EMPTY, "the object holds no bytes")
    if (too_large := check_bytes(content, limits)) is not None:
        return too_large
    kind = sniff(content)
    if kind is None:
        return Rejection(RejectReason.UNSUPPORTED_FORMAT, f"starts with {content[:8].hex()}")
    scans = 1
    try:
        if kind is ImageFormat.JPEG:
            layout, scans = jpeg.read(content, wanted or Wanted(limits.max_frames))
        else:
            layout = _read(kind, content, wanted or Wanted(limits.max_frames))
    except MALFORMED as error:
        return Rejection(RejectReason.UNDECODABLE, f"malformed {kind.value} header: {error}", kind.value)
    if scans > _MAX_SCANS or layout.work_pixels > _MAX_WORK_PIXELS:
        detail = f"{scans} scans of {layout.width} x {layout.height} pixels"
        return Rejection(RejectReason.TOO_COMPLEX, detail, kind.value, layout.width, layout.height)
    header = ImageHeader(
        kind,
        layout.width,
        abs(layout.height),
        layout.frames,
        layout.decoder_bytes,
        layout.decoded_width,
        layout.decoded_height,
    )
    return check(header, limits) or header


def check_bytes(content: bytes, limits: ImageLimits) -> Rejection | None:
    """Return the rejection of a content larger than `limits.max_bytes`, or None."""
    if len(content) <= limits.max_bytes:
        return None
    return Rejection(RejectReason.TOO_MANY_BYTES, f"{len(content)} bytes, at most {limits.max_bytes}")


def check(header: ImageHeader, limits: ImageLimits) -> Rejection | None:
    """Return the rejection of a header beyond `limits`, or None."""
    width, height = header.width, header.height
    decoded = (header.decoded_width or width, header.decoded_height or height)
    size = f"{decoded[0]} x {decoded[1]} pixels"

    def reject(reason: RejectReason, detail: str) -> Rejection:
        return Rejection(reason, detail, header.format.value, max(width, 0), max(height, 0))

    if min(*decoded, width, height) <= 0:
        return reject(RejectReason.UNDECODABLE, f"a picture of {width} x {height} pixels")
    if max(decoded) > limits.max_side:
        return reject(RejectReason.TOO_LARGE_SIDE, f"{size}, sides at most {limits.max_side}")
    if decoded[0] * decoded[1] > limits.max_pixels:
        return reject(RejectReason.TOO_MANY_PIXELS, f"{size}, at most {limits.max_pixels} in all")
    if header.frames > limits.max_frames:
        return reject(RejectReason.TOO_MANY_FRAMES, f"more than {limits.max_frames} frames")
    return None


def _read(kind: ImageFormat, content: bytes, wanted: Wanted) -> Layout:
    match kind:
        case ImageFormat.JPEG:
            return jpeg.read(content, wanted)[0]
        case ImageFormat.PNG:
            return png.read(content, wanted)
        case ImageFormat.GIF:
            return gif.read(content, wanted)
        case ImageFormat.BMP:
            return bmp.read(content, wanted)
        case ImageFormat.WEBP:
            return webp.read(content, wanted)
        case ImageFormat.TIFF:
            return tiff.read(content, wanted)
        case ImageFormat.AVIF | ImageFormat.HEIC:
            return boxes.read(content, wanted, kind.value)
        case ImageFormat.ICO | ImageFormat.CUR:
            return bmp.read_icon(content, wanted)
        case ImageFormat.JXL:
            return jxl.read(content, wanted)
        case ImageFormat.JP2:
            return jp2.read(content, wanted)


def ends_early(content: bytes, kind: ImageFormat) -> bool:
    """Return whether the file ends before its own end mark. False if the format has none. Never raises."""
    try:
        match kind:
            case ImageFormat.JPEG:
                return not jpeg.picture_end(content)
            case ImageFormat.WEBP:
                return not webp.picture_end(content)
            case ImageFormat.PNG:
                return not png.picture_end(content)
            case ImageFormat.GIF:
                return not gif.picture_end(content)
            case ImageFormat.AVIF | ImageFormat.HEIC:
                return boxes.ends_early(content)
            case _:
                return False
    except MALFORMED:
        return False
