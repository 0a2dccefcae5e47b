"""BMP: run-length codes, bit fields and short palettes by a reader in this module, all other files by Skia.

Skia leaves pixels transparent that a run-length code skips; Chromium shows them black. Skia does not support RLE24,
alpha in bit fields of 32 bits, or palettes shorter than the header says. The header reader has already checked all
sizes.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from app.inference.decoding.by_skia import Raster, SkiaRefusal, still
from app.inference.decoding.colour import from_profile
from app.inference.decoding.pixels import picture, reduced, straight
from app.inference.model_input import Pixels

_CORE_BYTES: Final = 12
_INFO_BYTES: Final = 40
# Headers of at least this size contain a mask for alpha; the header of 52 bytes ends after the mask for blue.
_ALPHA_MASK_BYTES: Final = 56
# OS/2 2.x headers have 16 to 64 bytes; 40, 52 and 56 are those of Windows.
_WINDOWS: Final = frozenset({40, 52, 56, 108, 124})
_RLE8, _RLE4, _BIT_FIELDS, _RLE24_OS2, _ALPHA_BIT_FIELDS = 1, 2, 3, 4, 6
_FILE_HEADER_BYTES: Final = 14
_EMBEDDED: Final = b"DEBM"


@dataclass(frozen=True, slots=True)
class BmpHeader:
    """Facts from the two headers of a BMP. `top_down`: the first row of the file is the top one."""

    size: int
    width: int
    height: int
    top_down: bool
    bits: int
    compression: int
    colours: int
    pixels_at: int


def decode_bmp(content: bytes, smallest_side: int) -> Raster:
    """Return the picture in sRGB. Raises SkiaRefusal or MALFORMED."""
    header = read_header(content)
    windows = header.size in _WINDOWS
    if header.compression in (_RLE8, _RLE4) or (header.compression == _RLE24_OS2 and not windows):
        canvas, truncated = _run_lengths(content, header)
        return Raster(0, _managed(content, header, reduced(canvas, smallest_side)), truncated)
    if header.bits in (16, 32) and windows and header.compression in (_BIT_FIELDS, _ALPHA_BIT_FIELDS):
        fields = _bit_fields(content, header)
        if fields is not None:
            return Raster(0, _managed(content, header, straight(reduced(fields[0], smallest_side))), fields[1])
    try:
        raster = still(content, smallest_side)
    except SkiaRefusal:
        if header.bits > 8 or header.compression:
            raise
        indexed = _indexed(content, header)
        return Raster(0, reduced(indexed[0], smallest_side), indexed[1])
    return Raster(0, _managed(content, header, raster.pixels), raster.truncated)


def read_header(content: bytes) -> BmpHeader:
    """Return both headers of a file. Raises MALFORMED."""
    (pixels_at, size) = struct.unpack_from("<II", content, 10)
    if size == _CORE_BYTES:
        width, height, _, bits = struct.unpack_from("<HHHH", content, 18)
        return BmpHeader(size, width, height, False, bits, 0, 0, pixels_at)
    width, height, _, bits = struct.unpack_from("<iiHH", content, 18)
    compression = struct.unpack_from("<I", content, 30)[0] if size >= 20 else 0
    colours = struct.unpack_from("<I", content, 46)[0] if size >= 36 else 0
    return BmpHeader(size, width, abs(height), height < 0, bits, compression, colours, pixels_at)


def _palette(content: bytes, header: BmpHeader) -> Pixels:
    """Return 256 colours; colours missing in the file are black."""
    entry = 3 if header.size == _CORE_BYTES else 4
    start = _FILE_HEADER_BYTES + header.size
    count = min(header.colours or 1 << header.bits, 256)
    room = max(0, min(header.pixels_at, len(content)) - start)
    count = min(count, room // entry)
    palette = np.zeros((256, 3), np.uint8)
    if count:
        raw = np.frombuffer(content, np.uint8, count * entry, start).reshape(count, entry)
        palette[:count] = raw[:, 2::-1]
    return palette


def _indexed(content: bytes, header: BmpHeader) -> tuple[Pixels, bool]:
    """Return the colours of pixels with 1 to 8 bits."""
    if header.bits not in (1, 2, 4, 8):
        raise ValueError(f"{header.bits} bits a pixel")
    rows, truncated = read_rows(content, header, (header.width * header.bits + 31) // 32 * 4)
    if header.bits < 8:
        parts = [rows >> shift & (1 << header.bits) - 1 for shift in range(8 - header.bits, -1, -header.bits)]
        rows = np.stack(parts, axis=2).reshape(header.height, -1)
    return _palette(content, header)[rows[:, : header.width]], truncated


def read_rows(content: bytes, header: BmpHeader, row_bytes: int) -> tuple[Pixels, bool]:
    """Return the bytes of all rows, the top row first, and whether some are missing in the file; those are zero."""
    wanted = row_bytes * header.height
    there = max(0, min(wanted, len(content) - header.pixels_at))
    if there < wanted:
        raw = np.zeros(wanted, np.uint8)
        raw[:there] = np.frombuffer(content, np.uint8, there, header.pixels_at)
    else:
        raw = np.frombuffer(content, np.uint8, wanted, header.pixels_at)
    rows = raw.reshape(header.height, row_bytes)
    return (rows if header.top_down else rows[::-1]), there < wanted


def _bit_fields(content: bytes, header: BmpHeader) -> tuple[Pixels, bool] | None:
    """Return premultiplied RGBA, or None if there is no alpha field: Skia reads such files faster."""
    if header.size < _ALPHA_MASK_BYTES and (header.size != _INFO_BYTES or header.compression == _BIT_FIELDS):
        return None
    masks = struct.unpack_from("<4I", content, _FILE_HEADER_BYTES + _INFO_BYTES)
    if not masks[3]:
        return None
    row_bytes = (header.width * header.bits + 31) // 32 * 4
    rows, truncated = read_rows(content, header, row_bytes)
    values = np.ascontiguousarray(rows).view("<u2" if header.bits == 16 else "<u4")[:, : header.width]
    rgba = np.empty((header.height, header.width, 4), np.uint8)
    for channel, mask in enumerate(masks):
        rgba[..., channel] = _field(values, mask)
    # Files with zero alpha everywhere come from programs that do not support alpha.
    if not rgba[..., 3].any():
        rgba[..., 3] = 255
    return np.asarray(picture(rgba, "RGBA").convert("RGBa"), dtype=np.uint8), truncated


def _field(values: np.ndarray, mask: int) -> Pixels:
    """Return one bit field of all pixels, scaled to 8 bits."""
    if not mask:
        return np.zeros(values.shape, np.uint8)
    shift = (mask & -mask).bit_length() - 1
    bits = (mask >> shift).bit_length()
    field = (values & mask) >> shift
    if bits > 8:
        return np.asarray(field >> (bits - 8), np.uint8)
    table = np.round(np.arange(1 << bits) * (255.0 / ((1 << bits) - 1))).astype(np.uint8)
    return np.asarray(table[field])


def _run_lengths(content: bytes, header: BmpHeader) -> tuple[Pixels, bool]:
    """Return RGB pixels, and whether the file ends before the code does. Pixels that the code skips are black."""
    width, height = header.width, header.height
    canvas = np.zeros((height, width, 3), np.uint8)
    deep = header.compression == _RLE24_OS2
    half = header.compression == _RLE4
    palette = _palette(content, header)
    at, end, x, y = header.pixels_at, len(content), 0, 0
    while at + 2 <= end and y < height:
        count, code = content[at], content[at + 1]
        at += 2
        row = canvas[y if header.top_down else height - 1 - y]
        if count:
            if deep:
                row[x : x + count] = (*content[at : at + 2][::-1], code)
                at += 2
            elif half:
                row[x : x + count : 2] = palette[code >> 4]
                row[x + 1 : x + count : 2] = palette[code & 15]
            else:
                row[x : x + count] = palette[code]
            x += count
        elif code == 0:
            x, y = 0, y + 1
        elif code == 1:
            return canvas, False
        elif code == 2:
            if at + 2 > end:
                break
            x, y = x + content[at], y + content[at + 1]
            at += 2
        else:
            size = code * 3 if deep else (code + 1) // 2 if half else code
            raw = np.frombuffer(content[at : at + size], np.uint8)
            row[x : x + code] = _literal(raw, code, palette, deep, half)[: max(0, width - x)]
            at += size + (size & 1)
            x += code
    return canvas, y < height


def _literal(raw: Pixels, count: int, palette: Pixels, deep: bool, half: bool) -> Pixels:
    out = np.zeros((count, 3), np.uint8)
    if deep:
        there = len(raw) // 3
        out[:there] = raw[: 3 * there].reshape(-1, 3)[:, ::-1]
        return out
    indices = np.stack((raw >> 4, raw & 15), axis=1).reshape(-1)[:count] if half else raw
    out[: len(indices)] = palette[indices]
    return out


def _managed(content: bytes, header: BmpHeader, pixels: Pixels) -> Pixels:
    """Return the pixels in sRGB, converted from the profile in a header of 124 bytes."""
    if header.size < 124 or content[70:74] != _EMBEDDED:
        return pixels
    start, size = struct.unpack_from("<II", content, 126)
    start += _FILE_HEADER_BYTES
    return from_profile(pixels, content[start : start + size], grey=False)
