"""Measure what decoding takes: peak memory beside `ImageHeader.decoder_bytes`, and time, for each kind of file.

    .venv/bin/python -m bench.decoder_memory [MEGAPIXELS …]     (default: 4 and 16)

Each decode runs in a process of its own; figures are the growth of its peak RSS while `Decoder.decode` runs.
"""

from __future__ import annotations

import argparse
import io
import math
import multiprocessing
import struct
import time
import zlib
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from app.domain.images import ImageLimits, Rejection
from app.inference.decoding.decoder import Decoder
from app.inference.decoding.pictures import DecodeOptions

LIMITS = ImageLimits(1 << 30, 1 << 30, 1 << 20, 500)
# The side of the largest model input, as a worker has it.
SMALLEST_SIDE = 512


def main() -> None:
    """Print one line for each kind of file and size."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("megapixels", nargs="*", type=float, default=[4.0, 16.0])
    parser.add_argument("--only", default="", help="kinds whose name contains this")
    arguments = parser.parse_args()
    print(f"{'kind':24} {'pixels':>11} {'bytes':>10} {'peak':>8} {'bound':>8} {'B/pixel':>8} {'seconds':>8}")
    for name, make in KINDS.items():
        if arguments.only not in name:
            continue
        for megapixels in arguments.megapixels:
            side = int(math.sqrt(megapixels * 1e6)) // 16 * 16
            _print(name, make(side), side)


def _print(name: str, content: bytes, side: int) -> None:
    for options in (DecodeOptions(SMALLEST_SIDE, 5), DecodeOptions(0, 5)):
        parent, child = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(target=_measure, args=(child, content, options))
        process.start()
        child.close()
        try:
            peak, bound, seconds, outcome = parent.recv()
        except EOFError:
            peak, bound, seconds, outcome = 0, 0, 0.0, "the process died"
        process.join()
        label = name if options.smallest_side else f"{name}, whole"
        over = "  OVER" if peak > bound else ""
        print(
            f"{label:24} {side * side:>11,} {len(content):>10,} {peak / 1e6:>7.1f}M {bound / 1e6:>7.1f}M "
            f"{peak / side**2:>8.2f} {seconds:>8.3f} {outcome}{over}",
            flush=True,
        )


def _measure(pipe: Connection, content: bytes, options: DecodeOptions) -> None:
    decoder = Decoder(LIMITS, options)
    # Libraries are loaded and first buffers made before the measurement.
    for warm in WARM:
        decoder.decode(warm)
    granted: list[int] = []
    _reset_peak()
    before = _peak_bytes()
    began = time.perf_counter()
    found = decoder.decode(content, granted.append)
    seconds = time.perf_counter() - began
    outcome = found.reason.value if isinstance(found, Rejection) else f"{len(found.frames)} frames"
    pipe.send((_peak_bytes() - before, granted[0] if granted else 0, seconds, outcome))


def _reset_peak() -> None:
    """Make the kernel forget the peak so far; that of `getrusage` survives fork and exec."""
    Path("/proc/self/clear_refs").write_text("5")


def _peak_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024


def _picture(side: int, mode: str = "RGB") -> Image.Image:
    """Return a picture with some detail, cheap to make and to compress."""
    small = np.random.default_rng(1).integers(0, 256, (side // 16, side // 16, len(mode)), dtype=np.uint8)
    bands = [Image.fromarray(np.ascontiguousarray(small[..., n])).resize((side, side)) for n in range(len(mode))]
    return Image.merge(mode, bands)


def _encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _animated(side: int, kind: str, mode: str = "RGB", **options: Any) -> bytes:
    frames = [_picture(side, mode), _picture(side, mode).transpose(Image.Transpose.ROTATE_90)]
    return _encoded(frames[0], kind, save_all=True, append_images=[frames[1], frames[0], frames[1]], **options)


def _interlaced(side: int) -> bytes:
    """Return an interlaced PNG of 16 bits with alpha, which no encoder at hand writes."""
    values = np.asarray(_picture(side, "RGBA")).astype(">u2") * 257
    body = zlib.compressobj(1)
    parts = []
    for top, left, down, across in (
        (0, 0, 8, 8),
        (0, 4, 8, 8),
        (4, 0, 8, 4),
        (0, 2, 4, 4),
        (2, 0, 4, 2),
        (0, 1, 2, 2),
        (1, 0, 2, 1),
    ):
        rows = (
            np.ascontiguousarray(values[top::down, left::across])
            .view(np.uint8)
            .reshape(-1, len(range(left, side, across)) * 8)
        )
        parts.append(body.compress(np.hstack([np.zeros((len(rows), 1), np.uint8), rows]).tobytes()))
    parts.append(body.flush())
    head = struct.pack(">IIBBBBB", side, side, 16, 6, 0, 0, 1)
    chunks = ((b"IHDR", head), (b"IDAT", b"".join(parts)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def _rle(side: int) -> bytes:
    row = b"\x10\x01\x10\x02" * (side // 32) + b"\0\0"
    pixels = row * side + b"\0\1"
    palette = b"\xff\x80\x00\x00" * 256
    return (
        struct.pack("<2sIII", b"BM", 1078 + len(pixels), 0, 1078)
        + struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(pixels), 0, 0, 256, 0)
        + palette
        + pixels
    )


def _jxl(side: int, mode: str = "RGB") -> bytes:
    import imagecodecs

    return bytes(imagecodecs.jpegxl_encode(np.asarray(_picture(side, mode)), level=90, effort=3))


def _icon(side: int, bits: int, alpha: int = 128) -> bytes:
    """Return an icon of one bitmap, larger than its directory can say."""
    pixels = np.full((side, side, bits // 8), alpha, np.uint8)
    pixels[..., :3] = np.asarray(_picture(side))
    header = struct.pack("<IiiHHIIiiII", 40, side, 2 * side, 1, bits, 0, 0, 0, 0, 0, 0)
    body = header + pixels.tobytes() + bytes((side + 31) // 32 * 4 * side)
    return struct.pack("<HHHBBBBHHII", 0, 1, 1, 0, 0, 0, 0, 1, bits, len(body), 22) + body


KINDS: dict[str, Callable[[int], bytes]] = {
    "jpeg": lambda side: _encoded(_picture(side), "JPEG", quality=85),
    "jpeg 4:4:4": lambda side: _encoded(_picture(side), "JPEG", quality=85, subsampling=0),
    "jpeg progressive": lambda side: _encoded(_picture(side), "JPEG", quality=85, progressive=True),
    "jpeg progressive 4:4:4": lambda side: _encoded(_picture(side), "JPEG", progressive=True, subsampling=0),
    "jpeg cmyk": lambda side: _encoded(_picture(side, "CMYK"), "JPEG", quality=85),
    "jpeg cut": lambda side: _encoded(_picture(side), "JPEG", quality=85)[:-2000],
    "png": lambda side: _encoded(_picture(side), "PNG", compress_level=1),
    "png alpha": lambda side: _encoded(_picture(side, "RGBA"), "PNG", compress_level=1),
    "png 16 bit interlaced": _interlaced,
    "apng": lambda side: _animated(side, "PNG", "RGBA", compress_level=1, disposal=2),
    "gif": lambda side: _encoded(_picture(side), "GIF"),
    "gif animated": lambda side: _animated(side, "GIF", disposal=3),
    "webp": lambda side: _encoded(_picture(side), "WEBP", method=0),
    "webp alpha": lambda side: _encoded(_picture(side, "RGBA"), "WEBP", method=0),
    "webp lossless": lambda side: _encoded(_picture(side, "RGBA"), "WEBP", lossless=True, method=0, quality=0),
    "webp animated": lambda side: _animated(side, "WEBP", "RGBA", method=0),
    "bmp": lambda side: _encoded(_picture(side), "BMP"),
    "bmp alpha": lambda side: _encoded(_picture(side, "RGBA"), "BMP"),
    "bmp rle": _rle,
    "ico": lambda side: _icon(side, 24),
    "ico alpha": lambda side: _icon(side, 32),
    "ico alpha 0": lambda side: _icon(side, 32, 0),
    "tiff": lambda side: _encoded(_picture(side), "TIFF"),
    "tiff lzw": lambda side: _encoded(_picture(side), "TIFF", compression="tiff_lzw"),
    "tiff cmyk": lambda side: _encoded(_picture(side, "CMYK"), "TIFF", compression="tiff_lzw"),
    "tiff jpeg": lambda side: _encoded(_picture(side), "TIFF", compression="jpeg"),
    "tiff pages": lambda side: _animated(side, "TIFF", compression="tiff_lzw"),
    "avif": lambda side: _encoded(_picture(side), "AVIF", speed=10),
    "avif alpha": lambda side: _encoded(_picture(side, "RGBA"), "AVIF", speed=10, subsampling="4:4:4"),
    "avif animated": lambda side: _animated(side, "AVIF", "RGBA", speed=10),
    "heic": lambda side: _encoded(_picture(side), "HEIF", quality=50),
    "heic alpha": lambda side: _encoded(_picture(side, "RGBA"), "HEIF", quality=50),
    "jxl": _jxl,
    "jxl alpha": lambda side: _jxl(side, "RGBA"),
    "jp2": lambda side: _encoded(_picture(side), "JPEG2000"),
    "jp2 alpha": lambda side: _encoded(_picture(side, "RGBA"), "JPEG2000"),
}
WARM = tuple(_encoded(Image.new("RGB", (8, 8)), kind) for kind in ("JPEG", "PNG", "WEBP"))


if __name__ == "__main__":
    main()
