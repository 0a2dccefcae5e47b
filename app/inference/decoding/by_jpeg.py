"""JPEG: the ordinary kind by libjpeg-turbo at a reduced scale; damaged, cut off and CMYK pictures by Skia."""

from __future__ import annotations

from typing import Final

from app.domain.headers.jpeg import colour_profile, picture_end, read_header
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
        _, _, colour, _ = simplejpeg.decode_jpeg_header(whole)
        if colour in ("RGB", "YCbCr", "Gray"):
            # Scaling by less than 2 costs more than it saves: 1,070 photographs of 400 x 533 a second, 1,770 whole.
            pixels = simplejpeg.decode_jpeg(
                whole, "RGB", min_height=smallest_side, min_width=smallest_side, min_factor=2
            )
            return Raster(0, from_profile(reduced(pixels, smallest_side), colour_profile(content)), False)
    except ValueError:
        # Damaged, cut off, or of a rare kind: Skia reads what a browser would show.
        pass
    return _by_skia(content, smallest_side)


def _by_skia(content: bytes, smallest_side: int) -> Raster:
    header = read_header(content)
    truncated = not picture_end(content)
    # Without its end a picture of several scans is shown as far as they refine it; Skia would wait for more of them.
    whole = content + _END if truncated and header.buffered else content
    side = smallest_side or max(header.width, header.height)
    scale = next((n for n in (8, 4, 2) if min(-(-header.width // n), -(-header.height // n)) >= side), 1)
    return Raster(0, still(whole, smallest_side, reduction=scale).pixels, truncated)
