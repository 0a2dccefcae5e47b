"""Conversion of colours to sRGB as in browsers: ICC profiles, coding-independent code points, PQ and HLG.

Skia converts profiles of three primaries and one curve; LittleCMS converts all other ICC profiles (tables, grey, CMYK).
Browsers use both libraries. `hdr` maps HDR to SDR.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import numpy as np
from PIL import Image, ImageCms

from app.inference.decoding import hdr
from app.inference.decoding.pixels import picture
from app.inference.decoding.skia_library import load_skia
from app.inference.model_input import Pixels

# Code points of ITU-T H.273.
PRIMARIES_709, PRIMARIES_2020, PRIMARIES_P3 = 1, 9, 12
TRANSFER_PQ, TRANSFER_HLG = 16, 18
_LINEAR = 8
_GAMMA_22, _GAMMA_28 = 4, 5
# Curves of cameras: BT.709, BT.601 and both of BT.2020. Chromium shows them in a PNG with the curve of a reference
# display, a power of 2.4 (BT.1886), and in an AVIF as sRGB.
_CAMERA: Final = frozenset({1, 6, 14, 15})
# Number of cached transforms: a camera writes the same profile into all its pictures. A transform takes about 40 kB.
_KEPT_PROFILES: Final = 16
# Larger than any real profile. The tag table begins after the header.
_MAX_PROFILE_BYTES: Final = 4 * 1024 * 1024
_TAGS_AT: Final = 128
# Colour-space signature of a grey ICC profile.
_GREY: Final = b"GRAY"
_ROWS_BYTES: Final = 4 * 1024 * 1024
_PROFILE_ERRORS: Final = (ImageCms.PyCMSError, OSError, RuntimeError, TypeError, ValueError, zlib.error)


def from_profile(pixels: Pixels, profile: bytes, *, grey: bool) -> Pixels:
    """Return RGB or straight RGBA pixels in sRGB. An unusable profile leaves them unchanged. Never raises.

    `grey`: the file stores grey values; browsers ignore a grey profile on any other picture. For a profile of sRGB the
    call takes only a cache lookup.
    """
    if not 128 < len(profile) <= _MAX_PROFILE_BYTES or (profile[16:20] == _GREY and not grey):
        return pixels
    try:
        space, transform = _read_profile(profile, pixels.shape[2] == 4)
        if space is not None:
            return _by_skia(pixels, space)
        if transform is None:
            return pixels
        mode = "RGBA" if pixels.shape[2] == 4 else "RGB"
        if profile[16:20] == _GREY:
            grey = transform.apply(Image.fromarray(np.ascontiguousarray(pixels[..., 0])))
            colours = np.asarray(grey, dtype=np.uint8)
            return np.dstack((colours, pixels[..., 3])) if mode == "RGBA" else colours
        return np.asarray(transform.apply(picture(pixels, mode)), dtype=np.uint8)
    except _PROFILE_ERRORS:
        return pixels


@dataclass(frozen=True, slots=True)
class CodePoints:
    """Colours by ITU-T H.273. `peak_nits` is the brightest light of an HDR picture.

    `camera_power`: the power with which the curves of cameras are shown; 0 takes them as sRGB.
    """

    primaries: int
    transfer: int
    peak_nits: float = hdr.DEFAULT_PEAK_NITS
    camera_power: float = 0.0


def from_code_points(pixels: Pixels, points: CodePoints) -> Pixels:
    """Return RGB or straight RGBA pixels in sRGB. Unknown code points leave them unchanged."""
    primaries, transfer = points.primaries, points.transfer
    if transfer in (TRANSFER_PQ, TRANSFER_HLG):
        gamut = (primaries == PRIMARIES_709, primaries == PRIMARIES_P3)
        return hdr.to_srgb(pixels, transfer == TRANSFER_PQ, *gamut, points.peak_nits)
    space = _code_point_space(primaries, transfer, points.camera_power)
    return pixels if space is None else _by_skia(pixels, space)


def _read_profile(profile: bytes, alpha: bool) -> tuple[Any, Any]:
    return _cached_profile(hashlib.blake2b(profile, digest_size=16).digest(), alpha, _Profile(profile))


class _Profile:
    """A profile that is not part of the cache's key; its digest replaces it."""

    def __init__(self, content: bytes) -> None:
        self.content = content

    def __hash__(self) -> int:
        return 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Profile)


@lru_cache(maxsize=_KEPT_PROFILES)
def _cached_profile(digest: bytes, alpha: bool, profile: _Profile) -> tuple[Any, Any]:
    """Return (colour space of Skia, None), (None, transform of LittleCMS), or (None, None) without a conversion."""
    content = profile.content
    profile.content = b""
    kind = content[16:20]
    if kind == b"RGB " and not _has_table(content):
        space = _skia_space(content)
        return (None, None) if space.isSRGB() else (space, None)
    if kind not in (b"RGB ", _GREY):
        return None, None
    source = ImageCms.ImageCmsProfile(io.BytesIO(content))
    mode = "L" if kind == _GREY else "RGBA" if alpha else "RGB"
    out = "RGB" if kind == _GREY else mode
    return None, ImageCms.ImageCmsTransform(source, _srgb_profile(), mode, out, ImageCms.Intent.PERCEPTUAL)


@lru_cache(maxsize=1)
def _srgb_profile() -> Any:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def _has_table(profile: bytes) -> bool:
    (count,) = struct.unpack_from(">I", profile, _TAGS_AT)
    return any(profile[at : at + 4] == b"A2B0" for at in range(_TAGS_AT + 4, _TAGS_AT + 4 + 12 * min(count, 100), 12))


def _skia_space(profile: bytes) -> Any:
    """Return Skia's colour space for an RGB profile; sRGB if Skia cannot read it.

    The binding reads only profiles inside pictures, so the profile is wrapped in a PNG of one pixel.
    """
    skia = load_skia()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    carrier = b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            chunk(b"IHDR", head),
            chunk(b"iCCP", b"x\0\0" + zlib.compress(profile, 1)),
            chunk(b"IDAT", zlib.compress(b"\0" * 4)),
            chunk(b"IEND", b""),
        )
    )
    # Skia does not copy the bytes: `carrier` must outlive the codec.
    space = skia.Codec.MakeFromData(carrier).getInfo().colorSpace()
    return space or skia.ColorSpace.MakeSRGB()


@lru_cache(maxsize=64)
def _code_point_space(primaries: int, transfer: int, camera_power: float) -> Any:
    """Return Skia's colour space, or None if it is sRGB or unknown."""
    skia = load_skia()

    named = skia.cms.NamedGamut
    gamut = {PRIMARIES_2020: named.kRec2020, PRIMARIES_P3: named.kDisplayP3}.get(primaries, named.kSRGB)
    curve = skia.cms.NamedTransferFn.kSRGB
    if transfer == _LINEAR:
        curve = skia.cms.NamedTransferFn.kLinear
    else:
        power = {_GAMMA_22: 2.2, _GAMMA_28: 2.8}.get(transfer, camera_power if transfer in _CAMERA else 0.0)
        if power:
            curve = skia.cms.TransferFunction([power, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    space = skia.ColorSpace.MakeRGB(curve, gamut)
    return None if space.isSRGB() else space


def _by_skia(pixels: Pixels, space: Any) -> Pixels:
    """Return the pixels converted from `space` to sRGB, a few rows at a time."""
    skia = load_skia()

    height, width, channels = pixels.shape
    out = np.empty_like(pixels, order="C")
    rows = max(1, _ROWS_BYTES // (4 * width))
    alpha = skia.kUnpremul_AlphaType if channels == 4 else skia.kOpaque_AlphaType
    part = np.empty((rows, width, 4), np.uint8)
    for top in range(0, height, rows):
        count = min(rows, height - top)
        part[:count, :, :channels] = pixels[top : top + count]
        if channels == 3:
            part[:count, :, 3] = 255
        source = skia.Pixmap(
            skia.ImageInfo.Make(width, count, skia.kRGBA_8888_ColorType, alpha, space), part, width * 4
        )
        wanted = skia.ImageInfo.Make(width, count, skia.kRGBA_8888_ColorType, alpha, skia.ColorSpace.MakeSRGB())
        converted = np.empty((count, width, 4), np.uint8)
        if not source.readPixels(wanted, converted, width * 4):
            return pixels
        out[top : top + count] = converted[..., :channels]
    return out
