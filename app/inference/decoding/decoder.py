"""Decoder: from the bytes of an image to the frames that a browser shows, or to a rejection (docs/images.md).

Limits are checked on the header before decoding, and again on the decoded picture. Image libraries raise almost any
exception on hostile input; every such exception becomes a rejection.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from PIL import Image, UnidentifiedImageError

from app.domain.headers import jpeg
from app.domain.headers.layout import Wanted
from app.domain.images import (
    ImageFormat,
    ImageHeader,
    ImageLimits,
    Rejection,
    RejectReason,
    check,
    ends_early,
    inspect,
)
from app.inference.decoding import by_bmp, by_ico, by_jpeg, by_jxl, by_pillow, by_png, by_skia
from app.inference.decoding.by_skia import Raster, SkiaRefusal
from app.inference.decoding.pictures import DecodedImage, DecodeOptions, Frame, Grant, OverBudget
from app.inference.decoding.pixels import turned

# Exceptions of Pillow and the codecs below it on malformed input.
_DECODER_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SkiaRefusal,
    SyntaxError,
    TypeError,
    UnidentifiedImageError,
    ValueError,
    by_jxl.JxlRefusal,
    struct.error,
    zlib.error,
)
_TRUNCATION_MARKS: Final = (
    "truncated",
    "premature",
    "unexpected end",
    "cannot read",
    "image data",
    "incomplete",
    "more_input",
)


def _no_limit(_: int) -> None:
    """Grant every request, for callers without a budget."""


class Decoder:
    """Decoder with limits, one picture at a time. Each call blocks while it decodes."""

    def __init__(self, limits: ImageLimits, options: DecodeOptions) -> None:
        self._limits = limits
        self._options = options
        self._wanted = Wanted(limits.max_frames, options.smallest_side, options.frames)
        by_pillow.prepare_pillow()

    def decode(self, content: bytes, grant: Grant = _no_limit) -> DecodedImage | Rejection:
        """Return the frames as a browser shows them, or a rejection. Never raises, whatever `content` is.

        Calls `grant` once before decoding, with the upper bound of the decoder's memory.
        """
        try:
            header = inspect(content, self._limits, self._wanted)
        except _DECODER_ERRORS as error:
            # `inspect` never raises by contract. If a file reveals a mistake in it, the process must not end.
            return Rejection(RejectReason.UNDECODABLE, f"unreadable header: {type(error).__name__}"[:300])
        if isinstance(header, Rejection):
            return header
        try:
            grant(header.decoder_bytes)
            return self._decode(content, header)
        except (OverBudget, MemoryError) as error:
            detail = str(error) or "the decoder ran out of memory"
            detail = f"{detail}; decoding takes up to {header.decoder_bytes} bytes"
            return Rejection(RejectReason.TOO_MUCH_MEMORY, detail, header.format.value, header.width, header.height)
        except _DECODER_ERRORS as error:
            return _rejected(content, header, error)

    def _decode(self, content: bytes, header: ImageHeader) -> DecodedImage | Rejection:
        count, rasters, orientation = self._rasters(content, header)
        beyond = check(replace(header, frames=count), self._limits)
        if beyond is not None:
            return beyond
        frames, truncated, size = [], False, (header.width, header.height)
        for raster in rasters:
            truncated = truncated or raster.truncated
            size = raster.source if any(raster.source) else size
            frames.append(Frame(turned(raster.pixels, orientation), raster.index))
        if truncated and all(frame.pixels.shape[2] == 4 and not frame.pixels[..., 3].any() for frame in frames):
            detail = "the file ends before the first pixel"
            return Rejection(RejectReason.TRUNCATED, detail, header.format.value, header.width, header.height)
        width, height = size if orientation < 5 else size[::-1]
        return DecodedImage(replace(header, width=width, height=height, frames=count), truncated, tuple(frames))

    def _rasters(self, content: bytes, header: ImageHeader) -> tuple[int, Iterator[Raster], int]:
        """Return the number of frames, the chosen frames, and the orientation that they still need."""
        side, most, max_frames = self._options.smallest_side, self._options.frames, self._limits.max_frames
        match header.format:
            case ImageFormat.JPEG:
                return 1, iter((by_jpeg.decode_jpeg(content, side),)), jpeg.orientation(content)
            case ImageFormat.PNG:
                return *by_png.decode_png(content, side, most, max_frames), by_png.orientation(content)
            case ImageFormat.GIF | ImageFormat.WEBP:
                return *by_skia.frames(content, side, most, max_frames), 1
            case ImageFormat.ICO | ImageFormat.CUR:
                return 1, iter((by_ico.decode_icon(content, side),)), 1
            case ImageFormat.BMP:
                return 1, iter((by_bmp.decode_bmp(content, side),)), 1
            case ImageFormat.JXL:
                return *by_jxl.decode_jxl(content, side, most), 1
            case ImageFormat.AVIF | ImageFormat.HEIC | ImageFormat.TIFF | ImageFormat.JP2:
                largest = max(header.width * header.height, header.decoded_width * header.decoded_height)
                count, rasters = by_pillow.decode_pillow(content, header.format, side, most, header.frames, largest)
                return count, rasters, by_pillow.orientation(content, header.format)


def _rejected(content: bytes, header: ImageHeader, error: BaseException) -> Rejection:
    # Pillow's text contains an object's address: equal bytes would give different details.
    text = "no decoder accepts it" if isinstance(error, UnidentifiedImageError) else str(error).strip()
    cut = any(mark in text.lower() for mark in _TRUNCATION_MARKS) or isinstance(error, EOFError)
    cut = cut or ends_early(content, header.format)
    reason = RejectReason.TRUNCATED if cut else RejectReason.UNDECODABLE
    detail = f"{type(error).__name__}: {text}"[:300]
    return Rejection(reason, detail, header.format.value, header.width, header.height)
