"""JPEG: the ordinary kind by libjpeg-turbo at a reduced scale; damaged, cut off and CMYK pictures by Skia."""

from __future__ import annotations

from typing import Final

from app.domain.headers.jpeg import colour_profile, picture_end, read_header, reading_scale
from app.inference.decoding.by_skia import Raster, still
from app.inference.decoding.colour import from_profile
from app.inference.decoding.pixels import reduced

_END: Final = b"\xff\xd9"
# Bytes at the end among which an end marker makes a file whole without a closer look.
_TAIL_BYTES: Final = 64


def decode_jpeg(content: bytes, smallest_side: int) -> Raster:
    """Return the picture in sRGB, not yet upright. Raises SkiaRefusal, or what libjpeg's binding raises."""
    import simplejpeg

    # A file that lacks nothing but its end marker is whole; completed, it decodes without complaint.
    whole = content if _END in content[-_TAIL_BYTES:] else content + _END
    try:
        height, width, colour, _ = simplejpeg.decode_jpeg_header(whole)
        if colour in ("RGB", "YCbCr", "Gray"):
            # Scaling by less than 2 costs more than it saves: 1,070 photographs of 400 x 533 a second, 1,770 whole.
            # The binding is told the size itself: left to its own rule it reduces a strip by its long side.
            scale = reading_scale(width, height, smallest_side)
            least = (-(-height // scale), -(-width // scale)) if scale > 1 else (0, 0)
            pixels = simplejpeg.decode_jpeg(whole, "RGB", min_height=least[0], min_width=least[1], min_factor=2)
            pixels = from_profile(reduced(pixels, smallest_side), colour_profile(content), grey=colour == "Gray")
            return Raster(0, pixels, False)
    except ValueError:
        # Damaged, cut off, or of a rare kind: Skia reads what a browser would show.
        pass
    return _by_skia(content, smallest_side)


def _by_skia(content: bytes, smallest_side: int) -> Raster:
    header = read_header(content)
    truncated = not picture_end(content)
    # Without its end a picture of several scans is shown as far as they refine it; Skia would wait for more of them.
    whole = content + _END if truncated and header.buffered else content
    scale = reading_scale(header.width, header.height, smallest_side)
    return Raster(0, still(whole, smallest_side, scale=scale).pixels, truncated)
