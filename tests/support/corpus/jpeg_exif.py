"""JPEG whose EXIF is written in unusual ways, or in several."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator

from tests.support.corpus import exif
from tests.support.corpus.case import Case, Closeness
from tests.support.corpus.jpeg_parts import SOI, Segment, inserted, joined, segments
from tests.support.corpus.picture import base, saved

_case = functools.partial(Case, "jpeg", media_type="image/jpeg", closeness=Closeness.LOSSY)
_PREFIX = b"Exif\0\0"
_XMP = (
    b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta xmlns:x='adobe:ns:meta/'><rdf:RDF "
    b"xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'><rdf:Description "
    b"xmlns:tiff='http://ns.adobe.com/tiff/1.0/' tiff:Orientation='6'/></rdf:RDF></x:xmpmeta>"
)


@functools.cache
def _plain() -> bytes:
    return saved(base(), "JPEG", quality=90)


def _little(value: int) -> bytes:
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, value, 0, 0)


def _long(value: int) -> bytes:
    return b"MM\0*" + struct.pack(">IHHHIII", 8, 1, 0x0112, 4, 1, value, 0)


def _twice(value: int) -> bytes:
    """Return a directory that names the orientation twice."""
    entries = struct.pack(">HHIHH", 0x0112, 3, 1, 1, 0) + struct.pack(">HHIHH", 0x0112, 3, 1, value, 0)
    return b"MM\0*" + struct.pack(">IH", 8, 2) + entries + bytes(4)


def _thumbnail_turned() -> bytes:
    """Return two directories; the second, that of the thumbnail, says how it is turned."""
    first = struct.pack(">HHHIHHI", 1, 0x010E, 3, 1, 0, 0, 26)
    return b"MM\0*" + struct.pack(">I", 8) + first + struct.pack(">HHHIHHI", 1, 0x0112, 3, 1, 6, 0, 0)


def _far(value: int) -> bytes:
    """Return a structure whose directory lies 400 bytes behind its header."""
    return b"MM\0*" + struct.pack(">I", 408) + bytes(400) + exif.orientation(value)[8:]


def _app1(*bodies: bytes) -> bytes:
    return inserted(_plain(), *(Segment(0xE1, body) for body in bodies))


def _behind_frame() -> bytes:
    parts = segments(_plain())
    at = next(number for number, one in enumerate(parts) if one.marker == 0xC0)
    return joined([*parts[: at + 1], Segment(0xE1, _PREFIX + exif.orientation(6)), *parts[at + 1 :]])


def _padded() -> bytes:
    return SOI + b"\xff\xff\xff" + _app1(_PREFIX + exif.orientation(6))[3:]


def cases() -> Iterator[Case]:
    """Yield the cases of EXIF in JPEG."""
    turned = exif.orientation(6)
    yield _case("EXIF, little-endian", build=lambda: _app1(_PREFIX + _little(6)))
    yield _case("EXIF, orientation of 32 bits", build=lambda: _app1(_PREFIX + _long(6)))
    yield _case("EXIF, orientation named twice", build=lambda: _app1(_PREFIX + _twice(6)))
    yield _case("EXIF, thumbnail turned", build=lambda: _app1(_PREFIX + _thumbnail_turned()))
    yield _case("EXIF, directory far away", build=lambda: _app1(_PREFIX + _far(6)))
    yield _case("EXIF, wrong prefix", build=lambda: _app1(b"Exif\0\1" + turned))
    yield _case("EXIF, two segments", build=lambda: _app1(_PREFIX + turned, _PREFIX + exif.orientation(3)))
    yield _case("EXIF, the first cannot be read", build=lambda: _app1(_PREFIX + b"junk", _PREFIX + turned))
    yield _case("EXIF behind XMP", build=lambda: _app1(_XMP, _PREFIX + turned))
    yield _case("EXIF behind the frame header", build=_behind_frame)
    yield _case("EXIF behind fill bytes", build=_padded)
    yield _case("XMP says: turned", build=lambda: _app1(_XMP))
