"""From the bytes of an image to one upright RGB picture, or to the reason why there is none (docs/images.md).

Limits are checked on the header before a decoder runs, and again on what the decoder found. Foreign decoders raise
almost anything on hostile input; each such error is a rejection here and goes no further.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from typing import Any, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from app.domain.images import (
    ImageFormat,
    ImageHeader,
    ImageLimits,
    Rejection,
    RejectReason,
    check,
    inspect,
    is_cut_off,
    jpeg_orientation,
)
from app.inference.decoding.pictures import DecodedImage, DecodeOptions, Frame, Grant, OverBudget
from app.inference.runtime import Pixels

_PILLOW_NAMES: Final = {
    ImageFormat.JPEG: "JPEG",
    ImageFormat.PNG: "PNG",
    ImageFormat.WEBP: "WEBP",
    ImageFormat.GIF: "GIF",
    ImageFormat.BMP: "BMP",
    ImageFormat.TIFF: "TIFF",
    ImageFormat.AVIF: "AVIF",
    ImageFormat.HEIC: "HEIF",
}
# What Pillow and the codecs below it raise on malformed input. MemoryError: a codec refused an absurd size.
_DECODER_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    EOFError,
    Image.DecompressionBombError,
    LookupError,
    MemoryError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    UnidentifiedImageError,
    ValueError,
    struct.error,
    zlib.error,
)
_TRUNCATION_MARKS: Final = ("truncated", "premature", "unexpected end", "cannot read", "image data")
_ORIENTATION_TAG: Final = 0x0112
_ALPHA_MODES: Final = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})


def _no_limit(_: int) -> None:
    """Grant every request: for callers that keep no budget."""


class Decoder:
    """Decodes within limits, one picture at a time; each call blocks for the decoding."""

    def __init__(self, limits: ImageLimits, options: DecodeOptions) -> None:
        self._limits = limits
        self._options = options
        self._smallest_side = options.smallest_side
        _prepare_pillow()

    def decode(self, content: bytes, grant: Grant = _no_limit) -> DecodedImage | Rejection:
        """Return the frames as a browser shows them, or why there are none. Never raises for what is in `content`.

        Calls `grant` once with the size of the decoder's memory before it decodes.
        """
        try:
            header = inspect(content, self._limits)
        except _DECODER_ERRORS as error:
            # `inspect` promises not to; if it breaks that over one file, the file must not end the process.
            return Rejection(RejectReason.UNDECODABLE, f"unreadable header: {type(error).__name__}"[:300])
        if isinstance(header, Rejection):
            return header
        try:
            grant(header.decoder_bytes)
            if header.format is ImageFormat.JPEG:
                return self._decode_jpeg(content, header)
            return self._decode_pillow(content, header)
        except (OverBudget, MemoryError) as error:
            detail = str(error) or f"the decoder needs {header.decoder_bytes} bytes"
            return Rejection(RejectReason.TOO_MUCH_MEMORY, detail, header.format.value, header.width, header.height)
        except _DECODER_ERRORS as error:
            return _rejected(content, header, error)

    def _decode_jpeg(self, content: bytes, header: ImageHeader) -> DecodedImage | Rejection:
        import simplejpeg

        # A file that lacks nothing but its end marker is whole; completed, it decodes without complaint.
        whole = content if b"\xff\xd9" in content[-64:] else content + b"\xff\xd9"
        try:
            _, _, colour, _ = simplejpeg.decode_jpeg_header(whole)
            if colour in ("RGB", "YCbCr", "Gray"):
                side = self._smallest_side
                # Scaling by less than 2 costs more than it saves: 1,070 photographs of 400 x 533 a second, 1,770 whole.
                rgb = simplejpeg.decode_jpeg(whole, "RGB", min_height=side, min_width=side, min_factor=2)
                return _upright(rgb, jpeg_orientation(content), header)
        except ValueError:
            # Damaged, cut off, or of a rare kind: Pillow tells these apart and reads what a browser would show.
            pass
        return self._decode_pillow(content, header)

    def _decode_pillow(self, content: bytes, header: ImageHeader) -> DecodedImage | Rejection:
        with Image.open(io.BytesIO(content), formats=(_PILLOW_NAMES[header.format],)) as image:
            found = ImageHeader(header.format, image.width, image.height, _frames(image, header))
            beyond = check(found, self._limits)
            if beyond is not None:
                return beyond
            if header.format is ImageFormat.JPEG and self._smallest_side:
                image.draft(None, _draft_size(image.size, self._smallest_side))
            image.load()
            orientation = jpeg_orientation(content) if header.format is ImageFormat.JPEG else _orientation(image)
            if header.format is ImageFormat.TIFF:
                # Pillow turns TIFF pictures itself while loading; the size must follow.
                found = ImageHeader(header.format, image.width, image.height, found.frames)
            rgb = self._to_rgb(image)
        return _upright(rgb, orientation, found)

    def _to_rgb(self, image: Image.Image) -> Pixels:
        """Return RGB pixels: 16 bits to 8, palettes looked up, alpha flattened on white, large pictures reduced."""
        if image.mode.startswith("I") or image.mode == "F":
            image = Image.fromarray(_to_8_bits(np.asarray(image)))
        alpha = image.mode in _ALPHA_MODES or "transparency" in image.info
        mode = "RGBA" if alpha else "RGB"
        # Pillow's convert copies even what has the mode already: as much again for a picture of 64 million pixels.
        image = self._reduced(image if image.mode == mode else image.convert(mode))
        return np.asarray(image, dtype=np.uint8)

    def _reduced(self, image: Image.Image) -> Image.Image:
        factor = min(image.size) // self._smallest_side if self._smallest_side else 1
        return image.reduce(factor) if factor >= 2 else image


def _prepare_pillow() -> None:
    """Make Pillow know HEIC, leave the threads to our pool and the limits to ours. Repeating it changes nothing."""
    import pillow_heif
    from PIL import AvifImagePlugin

    pillow_heif.register_heif_opener(thumbnails=False, decode_threads=1)
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1
    # Ours are checked before Pillow opens the file; its own would warn through a process-wide, thread-unsafe filter.
    Image.MAX_IMAGE_PIXELS = None
    # Pillow warns of what hostile files claim; each new text would be kept for ever by Python's registry of warnings.
    warnings.filterwarnings("ignore", module=r"PIL\.")


def _frames(image: Image.Image, header: ImageHeader) -> int:
    # Only AVIF tells its frames in a header that we do not read ourselves; asking others may walk the whole file.
    return int(getattr(image, "n_frames", 1)) if header.format is ImageFormat.AVIF else header.frames


def _draft_size(size: tuple[int, int], smallest_side: int) -> tuple[int, int]:
    scale = max(1.0, min(size) / smallest_side)
    return max(1, int(size[0] / scale)), max(1, int(size[1] / scale))


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except _DECODER_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _upright(pixels: Pixels, orientation: int, header: ImageHeader) -> DecodedImage:
    width, height = header.width, header.height
    if orientation >= 5:
        width, height = height, width
    upright = ImageHeader(header.format, width, height, header.frames, header.decoder_bytes)
    return DecodedImage(upright, False, (Frame(_turn(pixels, orientation), 0),))


def _turn(rgb: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation."""
    turned: Pixels = rgb
    match orientation:
        case 2:
            turned = rgb[:, ::-1]
        case 3:
            turned = rgb[::-1, ::-1]
        case 4:
            turned = rgb[::-1]
        case 5:
            turned = rgb.transpose(1, 0, 2)
        case 6:
            turned = np.rot90(rgb, -1)
        case 7:
            turned = rgb.transpose(1, 0, 2)[::-1, ::-1]
        case 8:
            turned = np.rot90(rgb, 1)
        case _:
            turned = rgb
    return np.ascontiguousarray(turned)


def _to_8_bits(values: Any) -> Pixels:
    """Scale grey values of 16 or 32 bits, or floats, to 8 bits: integers by their width, floats from 0 … 1."""
    if values.dtype.kind == "f":
        finite = np.nan_to_num(values, nan=0.0, posinf=1.0, neginf=0.0)
        if finite.size and finite.max() <= 1.0:
            finite = finite * 255.0
        return np.asarray(np.clip(finite, 0, 255), dtype=np.uint8)
    if values.dtype.itemsize == 2:
        return np.asarray(values >> 8, dtype=np.uint8)
    # 32-bit integers: what fits 8 or 16 bits was meant so, the rest is scaled from 32.
    largest = int(values.max(initial=0))
    shift = 0 if largest <= 0xFF else 8 if largest <= 0xFFFF else 24
    return np.asarray(np.clip(values, 0, None) >> shift, dtype=np.uint8)


def _rejected(content: bytes, header: ImageHeader, error: BaseException) -> Rejection:
    # Pillow's text names an object's address, which would make equal bytes give unequal details.
    told = "no decoder accepts it" if isinstance(error, UnidentifiedImageError) else str(error).strip()
    cut = any(mark in told.lower() for mark in _TRUNCATION_MARKS) or isinstance(error, EOFError)
    cut = cut or is_cut_off(content, header.format)
    reason = RejectReason.TRUNCATED if cut else RejectReason.UNDECODABLE
    detail = f"{type(error).__name__}: {told}"[:300]
    return Rejection(reason, detail, header.format.value, header.width, header.height)
