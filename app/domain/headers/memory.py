"""Measured memory cost of each decoder: upper bounds for decoding one picture.

Figures are bytes for each pixel that the decoder allocates: growth of the process's peak RSS while `Decoder.decode`
read pictures of 4 and 16 megapixels, rounded up. `python -m bench.decoder_memory` prints bounds and measured peaks.
"""

from __future__ import annotations

from app.domain.headers.layout import Wanted, reduction

# Tables, file buffers and growth of the interpreter, independent of the picture's size.
BASE_BYTES = 6 * 1024 * 1024
# Cost of each pixel of the reduced picture: canvas, alpha, orientation.
OUTPUT_BYTES = 14
# Cost of each pixel of a frame that is kept until the last frame is decoded.
KEPT_BYTES = 4
COEFFICIENT_BYTES = 2

DECODED_BYTES = {
    "jpeg": 4,
    "png": 4,
    "apng": 14,
    "gif": 6,
    "gif animated": 12,
    "bmp": 10,
    "ico": 13,
    "webp": 6,
    "webp alpha": 8,
    "webp animated": 20,
    "tiff": 12,
    "avif": 24,
    "avif animated": 48,
    "heic": 24,
    "jxl": 28,
    "jp2": 32,
}


def decoding_bytes(kind: str, decoded_pixels: int, size: tuple[int, int], frames: int, wanted: Wanted) -> int:
    """Return the bound for a picture of `size` whose decoder allocates `decoded_pixels` at once."""
    factor = reduction(*size, wanted.smallest_side)
    output = (size[0] // factor + 1) * (size[1] // factor + 1)
    kept = max(1, min(frames, wanted.frames))
    return BASE_BYTES + decoded_pixels * DECODED_BYTES[kind] + output * (OUTPUT_BYTES + kept * KEPT_BYTES)


def jpeg_bytes(output_pixels: int, coefficients: int) -> int:
    """Return the bound for a JPEG: the output at its scale, plus all coefficients if several scans refine them."""
    output = output_pixels * (DECODED_BYTES["jpeg"] + OUTPUT_BYTES)
    return BASE_BYTES + output + coefficients * COEFFICIENT_BYTES
