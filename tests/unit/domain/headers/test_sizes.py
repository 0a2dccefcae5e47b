"""Sizes that a TIFF tells in a way that only some readers understand."""

from __future__ import annotations

import struct

import pytest

from app.domain.images import ImageFormat, ImageLimits, Rejection, RejectReason, inspect
from app.inference.decoding import by_pillow
from app.inference.decoding.decoder import Decoder
from app.inference.decoding.pictures import DecodeOptions, OverBudget
from tests.support.pictures import encoded, noise

LIMITS = ImageLimits(max_bytes=1_000_000, max_pixels=64_000_000, max_side=65_535, max_frames=100)
_TIFF = encoded(noise(1, (48, 40)), "TIFF")
_HEIGHT = 257


def _height_entry(content: bytes) -> int:
    (start,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, start)
    entries = range(start + 2, start + 2 + 12 * count, 12)
    return next(at for at in entries if struct.unpack_from("<H", content, at)[0] == _HEIGHT)


def _with_height(kind: int, many: int, value: int, tail: bytes = b"") -> bytes:
    at = _height_entry(_TIFF)
    return _TIFF[:at] + struct.pack("<HHII", _HEIGHT, kind, many, value) + _TIFF[at + 12 :] + tail


def test_a_size_among_several_values_is_read_where_they_are() -> None:
    found = inspect(_with_height(4, 2, len(_TIFF), struct.pack("<II", 8_781_824, 40)), LIMITS)
    assert isinstance(found, Rejection) and found.reason is RejectReason.TOO_LARGE_SIDE and found.height == 8_781_824


@pytest.mark.parametrize("kind", [2, 5, 11, 12])
def test_a_size_that_is_text_or_a_fraction_is_refused(kind: int) -> None:
    found = inspect(_with_height(kind, 1, 40), LIMITS)
    assert isinstance(found, Rejection) and found.reason is RejectReason.UNDECODABLE


def test_a_picture_that_the_decoder_sees_larger_than_the_header_is_not_loaded() -> None:
    assert not isinstance(Decoder(LIMITS, DecodeOptions(8, 1)).decode(_TIFF), Rejection)
    _, rasters = by_pillow.decode_pillow(_TIFF, ImageFormat.TIFF, 8, 1, 1, 48 * 40 - 1)
    with pytest.raises(OverBudget, match="48 x 40 pixels"):
        next(rasters)
