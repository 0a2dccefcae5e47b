"""Image files built by hand, for what no encoder at hand writes."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, content: bytes, *, wrong_checksum: bool = False) -> bytes:
    """Return one PNG chunk."""
    checksum = zlib.crc32(kind + content) ^ (0xDEAD if wrong_checksum else 0)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


def png_with(content: bytes, *chunks: bytes) -> bytes:
    """Return a PNG with more chunks behind its IHDR."""
    return content[:33] + b"".join(chunks) + content[33:]


@dataclass(frozen=True, slots=True)
class ApngPart:
    """One frame of an APNG; `dispose`: 0 keep, 1 clear, 2 go back; `blend`: 0 replace, 1 over."""

    image: Image.Image
    left: int = 0
    top: int = 0
    delay_ms: int = 100
    dispose: int = 0
    blend: int = 0


def apng(size: tuple[int, int], parts: list[ApngPart], default: Image.Image | None = None) -> bytes:
    """Return an RGBA APNG. `default`: an IDAT that is no frame, which no browser shows; None makes it the first."""
    content = PNG_SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", *size, 8, 6, 0, 0, 0))
    content += chunk(b"acTL", struct.pack(">II", len(parts), 0))
    if default is not None:
        content += chunk(b"IDAT", _rows(default))
    sequence = 0
    for index, part in enumerate(parts):
        place = (
            part.image.width,
            part.image.height,
            part.left,
            part.top,
            part.delay_ms,
            1000,
            part.dispose,
            part.blend,
        )
        content += chunk(b"fcTL", struct.pack(">IIIIIHHBB", sequence, *place))
        sequence += 1
        if index == 0 and default is None:
            content += chunk(b"IDAT", _rows(part.image))
        else:
            content += chunk(b"fdAT", struct.pack(">I", sequence) + _rows(part.image))
            sequence += 1
    return content + chunk(b"IEND", b"")


def bmp(
    size: tuple[int, int],
    bits: int,
    pixels: bytes,
    *,
    compression: int = 0,
    palette: bytes = b"",
    masks: bytes = b"",
    header_bytes: int = 40,
    colours: int = 0,
) -> bytes:
    """Return a BMP; `header_bytes` 12 is the core header of OS/2, 16 to 64 its second one, others are of Windows."""
    if header_bytes == 12:
        header = struct.pack("<IHHHH", 12, *size, 1, bits)
    else:
        header = struct.pack("<IiiHHIIiiII", header_bytes, *size, 1, bits, compression, len(pixels), 0, 0, colours, 0)
        header = (header + masks).ljust(max(header_bytes, len(header + masks)), b"\0")
    at = 14 + len(header) + len(palette)
    return struct.pack("<2sIII", b"BM", at + len(pixels), 0, at) + header + palette + pixels


def encoded_jpeg(image: Image.Image, **options: Any) -> bytes:
    """Return a JPEG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()


def jpeg_of_size(content: bytes, width: int, height: int) -> bytes:
    """Return a JPEG whose frame header says another size: enough for readers of headers."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        at = content.find(marker)
        if at > 0:
            return content[: at + 5] + struct.pack(">HH", height, width) + content[at + 9 :]
    raise ValueError("no frame header")


def _rows(image: Image.Image) -> bytes:
    rows = np.asarray(image.convert("RGBA")).reshape(image.height, -1)
    return zlib.compress(np.hstack([np.zeros((image.height, 1), np.uint8), rows]).tobytes())
