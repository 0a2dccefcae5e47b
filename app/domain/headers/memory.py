"""The measured cost of each decoder: upper bounds of the memory that decoding a picture takes.

Each figure is bytes for each pixel that the decoder allocates, measured as the growth of a process' peak RSS while
`Decoder.decode` ran on pictures of 4 to 60 megapixels (bench/decoder_memory.py prints the table), rounded up.
"""

from __future__ import annotations

# Tables, file buffers and the interpreter's own growth, whatever the picture's size.
BASE_BYTES = 4 * 1024 * 1024
# Output, and a second one while it is turned upright or loses its empty alpha channel.
JPEG_OUTPUT_BYTES = 18
COEFFICIENT_BYTES = 2

PIXEL_BYTES = {
    "png": 12,
    "gif": 14,
    "bmp": 12,
    "ico": 12,
    "webp": 16,
    "webp_lossless": 16,
    "tiff": 16,
    "avif": 24,
    "heic": 24,
    "jxl": 40,
    "jp2": 32,
}


def jpeg_bytes(output_pixels: int, coefficients: int) -> int:
    """Return the bound for a JPEG: the output at its scale, and all coefficients where several scans refine them."""
    return BASE_BYTES + output_pixels * JPEG_OUTPUT_BYTES + coefficients * COEFFICIENT_BYTES


def pixel_bytes(kind: str, pixels: int, *, kept_bytes: int = 0) -> int:
    """Return the bound for a decoder that holds whole pictures; `kept_bytes` are frames that stay beside it."""
    return BASE_BYTES + pixels * PIXEL_BYTES[kind] + kept_bytes
