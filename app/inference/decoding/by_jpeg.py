"""JPEG: normal files by libjpeg-turbo at a reduced scale; damaged, truncated and CMYK pictures by Skia."""

from __future__ import annotations

from typing import Final

from app.domain.headers.jpeg import colour_profile, picture_end, read_header, reading_scale
from app.inference.decoding.by_skia import Raster, still
from app.inference.decoding.colour import from_profile
from app.inference.decoding.pixels import reduced

_END: Final = b"\xff\xd9"
# A file with an end marker in this many last bytes counts as complete without further checks.
_TAIL_BYTES: Final = 64


def decode_jpeg(content: bytes, smallest_side: int) -> Raster:
    """Return the picture in sRGB, before orientation. Raises SkiaRefusal or an exception of libjpeg's binding."""
    import simplejpeg

    # A file that lacks only its end marker is complete: with the marker appended, it decodes without a warning.
    whole = content if _END in content[-_TAIL_BYTES:] else content + _END
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(whole)
        if colour in ("RGB", "YCbCr", "Gray"):
            # Scaling by less than 2 costs more than it saves: 1,070 photographs of 400 x 533 a second against 1,770
            # without. The size is passed explicitly: by its own rule the binding reduces a strip by its long side.
            scale = reading_scale(width, height, smallest_side)
            least = (-(-height // scale), -(-width // scale)) if scale > 1 else (0, 0)
            pixels = simplejpeg.decode_jpeg(whole, "RGB", min_height=least[0], min_width=least[1], min_factor=2)
            pixels = from_profile(reduced(pixels, smallest_side), colour_profile(content), grey=colour == "Gray")
            return Raster(0, pixels, False)
    except ValueError:
        # Damaged, truncated, or of a rare kind: Skia reads it as a browser does.
        pass
    return _by_skia(content, smallest_side)


def _by_skia(content: bytes, smallest_side: int) -> Raster:
    header = read_header(content)
    truncated = not picture_end(content)
    # A truncated picture of several scans is shown as refined by the existing scans. Skia would wait for more scans, so
    # an end marker is appended.
    whole = content + _END if truncated and header.buffered else content
    scale = reading_scale(header.width, header.height, smallest_side)
    return Raster(0, still(whole, smallest_side, scale=scale).pixels, truncated)
