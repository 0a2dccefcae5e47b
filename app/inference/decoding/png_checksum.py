"""Check of the Adler-32 of a PNG's pixels: browsers ignore a wrong one, Skia's wheel drops the last rows."""

from __future__ import annotations

import struct
import zlib

from app.domain.headers.png import chunks

_ZLIB_HEADER_BYTES = 2
_CHECKSUM_BYTES = 4
_PIECE_BYTES = 256 * 1024
# Largest pixel: four channels of 16 bits. A row begins with its filter; interlacing splits a row into at most two.
_PIXEL_BYTES = 8
_ROW_BYTES = 16


def wrong_adler(content: bytes) -> int:
    """Return the offset of the pixels' checksum if it is wrong; 0 if it is right or the pixels are incomplete.

    Takes the time of inflating the pixels.
    """
    width, height = struct.unpack_from(">II", content, 16)
    inflated = _Inflated(height * (width * _PIXEL_BYTES + _ROW_BYTES))
    places: list[int] = []
    skipped = _ZLIB_HEADER_BYTES
    for chunk in chunks(content):
        if chunk.kind != b"IDAT":
            continue
        start = min(chunk.start + skipped, chunk.end)
        skipped -= start - chunk.start
        while start < chunk.end and not inflated.ended:
            end = min(start + _PIECE_BYTES, chunk.end)
            unused = inflated.take(content[start:end])
            if unused is None:
                return 0
            start = end - unused
        places += range(start, min(chunk.end, start + _CHECKSUM_BYTES - len(places)))
    right = struct.pack(">I", inflated.adler)
    there = bytes(content[at] for at in places)
    return places[0] if len(there) == _CHECKSUM_BYTES and there != right else 0


class _Inflated:
    """Incremental inflater of deflate data that keeps only their checksum."""

    def __init__(self, most: int) -> None:
        self.adler = 1
        self.ended = False
        self._left = most
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def take(self, piece: bytes) -> int | None:
        """Return the number of bytes in the piece after the end of the data; None for damaged or too long data."""
        full = True
        while (piece or full) and not self._inflate.eof:
            try:
                out = self._inflate.decompress(piece, _PIECE_BYTES)
            except zlib.error:
                return None
            self.adler = zlib.adler32(out, self.adler)
            self._left -= len(out)
            if self._left < 0:
                return None
            piece = self._inflate.unconsumed_tail
            full = len(out) == _PIECE_BYTES
        self.ended = self._inflate.eof
        return len(self._inflate.unused_data)
