"""Files that a public upload form receives sooner or later: broken, empty, lying about their size, two things at once.

Each is small on the wire, whatever it would become once decoded. `scored` is what must become of it: False where
only a rejection is right, True where a picture can be read, None where either is.
"""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from PIL import Image


@dataclass(frozen=True, slots=True)
class HostileFile:
    """One bad file: what it is, the suffix it claims, its bytes, and whether it may end as `scored`."""

    kind: str
    suffix: str
    body: bytes
    scored: bool | None


def hostile_files(jpeg: bytes, generator: random.Random) -> tuple[HostileFile, ...]:
    """Return one of each, some of them made from `jpeg`, a good photograph. Pure; equal arguments give equal bytes."""
    return tuple(make(jpeg, generator) for make in _MAKERS)


def _empty(jpeg: bytes, generator: random.Random) -> HostileFile:
    return HostileFile("empty", ".jpg", b"", False)


def _garbage(jpeg: bytes, generator: random.Random) -> HostileFile:
    return HostileFile("garbage", ".jpg", generator.randbytes(4_000), False)


def _cut_in_header(jpeg: bytes, generator: random.Random) -> HostileFile:
    return HostileFile("cut-off", ".jpg", jpeg[:200], False)


def _cut_in_picture(jpeg: bytes, generator: random.Random) -> HostileFile:
    return HostileFile("half-a-picture", ".jpg", jpeg[: len(jpeg) // 2], None)


def _flipped(jpeg: bytes, generator: random.Random) -> HostileFile:
    body = bytearray(jpeg)
    for _ in range(40):
        body[generator.randrange(len(body) // 2, len(body) - 2)] = generator.randrange(255)
    return HostileFile("bits-flipped", ".jpg", bytes(body), None)


def _page(jpeg: bytes, generator: random.Random) -> HostileFile:
    return HostileFile("web-page", ".jpg", b"<!doctype html><script>alert('not a picture')</script>" * 8, False)


def _vector(jpeg: bytes, generator: random.Random) -> HostileFile:
    body = (
        b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
        b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text>&x;</text></svg>'
    )
    return HostileFile("svg-with-entity", ".svg", body, False)


def _pixel_bomb(jpeg: bytes, generator: random.Random) -> HostileFile:
    # 12,000 by 12,000 pixels, one bit each: 17 KB on the wire, 432 MB as RGB.
    return HostileFile("bomb", ".png", _flat_png(12_000, 12_000), False)


def _long_side(jpeg: bytes, generator: random.Random) -> HostileFile:
    return HostileFile("too-wide", ".png", _flat_png(200_000, 8), False)


def _lying_jpeg(jpeg: bytes, generator: random.Random) -> HostileFile:
    # The frame header (SOF0 or SOF2) of a good photograph, its height and width overwritten with 65,500.
    body = bytearray(jpeg)
    at = next(place for place in (body.find(b"\xff\xc0"), body.find(b"\xff\xc2")) if place > 0)
    body[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    return HostileFile("huge-dimensions", ".jpg", bytes(body), False)


def _many_frames(jpeg: bytes, generator: random.Random) -> HostileFile:
    header = b"GIF89a" + struct.pack("<HHBBB", 2, 2, 0x80, 0, 0) + b"\x00\x00\x00\xff\xff\xff"
    frame = b"," + struct.pack("<HHHHB", 0, 0, 2, 2, 0) + b"\x02\x03\x44\x02\x05\x00"
    return HostileFile("too-many-frames", ".gif", header + frame * 2_000 + b";", False)


def _far_directory(jpeg: bytes, generator: random.Random) -> HostileFile:
    # A BigTIFF whose first directory lies past any file, and past what an index may be.
    return HostileFile("far-directory", ".tif", b"II+\0" + struct.pack("<HHQ", 8, 0, 2**64 - 1), False)


def _script_polyglot(jpeg: bytes, generator: random.Random) -> HostileFile:
    return HostileFile("gif-and-script", ".gif", b"GIF89a/*" + b"\x00" * 40 + b"*/=1;alert(1);//", False)


def _archive_polyglot(jpeg: bytes, generator: random.Random) -> HostileFile:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("payload.txt"), "a whole archive behind a good picture")
    return HostileFile("jpeg-and-zip", ".jpg", jpeg + buffer.getvalue(), True)


def _flat_png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = zlib.compress((b"\x00" + b"\x00" * ((width + 7) // 8)) * height, 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _one_pixel(jpeg: bytes, generator: random.Random) -> HostileFile:
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1), (200, 30, 30)).save(buffer, "PNG")
    return HostileFile("one-pixel", ".png", buffer.getvalue(), None)


_MAKERS: Final[tuple[Callable[[bytes, random.Random], HostileFile], ...]] = (
    _empty,
    _cut_in_header,
    _pixel_bomb,
    _lying_jpeg,
    _script_polyglot,
    _garbage,
    _page,
    _long_side,
    _many_frames,
    _archive_polyglot,
    _vector,
    _cut_in_picture,
    _flipped,
    _one_pixel,
    _far_directory,
)
