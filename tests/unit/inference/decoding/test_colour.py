"""Colours as a browser shows them; the numbers were read from Chromium 156 with a colour profile of sRGB."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from app.domain.images import ImageLimits
from app.inference.decoding.decoder import Decoder
from app.inference.decoding.pictures import DecodedImage, DecodeOptions
from app.inference.model_input import Pixels
from tests.support.files import chunk, png_with
from tests.support.pictures import encoded, plain
from tests.support.profiles import DISPLAY_P3, SRGB, SWAPPED, grey_profile, rgb_profile

DECODER = Decoder(ImageLimits(1 << 20, 1_000_000, 4096, 10), DecodeOptions(smallest_side=0, frames=5))
# Grey of 0, 16, 32 … 240, and what Chromium shows.
STEPS = list(range(0, 256, 16))
PQ = [0, 1, 5, 15, 30, 48, 70, 98, 132, 175, 213, 237, 255, 255, 255, 255]
HLG = [0, 3, 14, 29, 43, 57, 71, 85, 99, 115, 135, 160, 189, 212, 228, 243]
GAMMA_24_STEPS = {24: 11, 48: 37, 96: 87, 144: 138, 192: 189, 240: 239}


def shown(content: bytes) -> Pixels:
    found = DECODER.decode(content)
    assert isinstance(found, DecodedImage), found
    return found.frames[0].pixels


def first(content: bytes) -> list[int]:
    return [int(value) for value in shown(content)[0, 0]]


def cicp(image: Image.Image, primaries: int, transfer: int, *more: bytes) -> bytes:
    return png_with(encoded(image, "PNG"), chunk(b"cICP", bytes((primaries, transfer, 0, 1))), *more)


def greys() -> Image.Image:
    return Image.fromarray(np.repeat(np.array([STEPS], np.uint8)[..., None], 3, axis=2))


@pytest.mark.parametrize(("transfer", "expected"), [(16, PQ), (18, HLG)])
@pytest.mark.parametrize("primaries", [1, 9, 12])
def test_hdr_is_mapped_as_chromium_maps_it(primaries: int, transfer: int, expected: list[int]) -> None:
    found = shown(cicp(greys(), primaries, transfer))[0]
    assert found[:, 0].tolist() == pytest.approx(expected, abs=1)
    assert (found.max(axis=1) - found.min(axis=1)).max() <= 1, "grey stays grey"


def test_the_light_level_of_a_picture_moves_the_curve() -> None:
    level = chunk(b"cLLI", struct.pack(">II", 4_000_0000, 0))
    dim, bright = shown(cicp(greys(), 9, 16)), shown(cicp(greys(), 9, 16, level))
    assert bright[0, 12, 0] < 250 < dim[0, 12, 0], "what is 700 nits leaves room for 4,000"


def test_the_curve_of_cameras_is_a_power_of_2_4_in_a_png() -> None:
    for value, expected in GAMMA_24_STEPS.items():
        assert first(cicp(plain((value,) * 3), 1, 1))[0] == pytest.approx(expected, abs=1)


def test_code_points_have_precedence_over_a_profile() -> None:
    image = plain((200, 40, 90))
    content = encoded(image, "PNG", icc_profile=rgb_profile(SWAPPED))
    assert first(png_with(content, chunk(b"cICP", bytes((1, 13, 0, 1))))) == [200, 40, 90]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "HEIF"])
def test_profiles_are_followed(kind: str) -> None:
    options: dict[str, Any] = {"quality": 95} if kind != "TIFF" else {}
    swapped = first(encoded(plain((200, 40, 90)), kind, icc_profile=rgb_profile(SWAPPED), **options))
    assert swapped[1] > 190 and swapped[0] < 60, "red and green change places"
    wide = first(encoded(plain((128, 128, 128)), kind, icc_profile=rgb_profile(DISPLAY_P3), **options))
    assert wide[:3] == pytest.approx([128] * 3, abs=5)
    wide = first(encoded(plain((100, 200, 100)), kind, icc_profile=rgb_profile(DISPLAY_P3), **options))
    assert wide[0] < 75 and wide[1] > 198, "green of a wide gamut lies outside sRGB"
    linear = first(encoded(plain((55, 55, 55)), kind, icc_profile=rgb_profile(SRGB, 1.0), **options))
    assert linear[:3] == pytest.approx([127] * 3, abs=6)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_profiles_of_grey_are_followed(kind: str) -> None:
    found = first(encoded(plain((55, 55, 55)).convert("L"), kind, icc_profile=grey_profile(1.0)))
    assert found[:3] == pytest.approx([127] * 3, abs=4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "AVIF"])
def test_profiles_of_grey_are_ignored_on_colours(kind: str) -> None:
    found = first(encoded(plain((200, 40, 90)), kind, icc_profile=grey_profile(1.0)))
    assert found[:3] == pytest.approx([200, 40, 90], abs=6)


def test_a_profile_of_grey_is_ignored_on_a_jpeg_that_stores_grey_as_colours() -> None:
    found = first(encoded(plain((55, 55, 55)), "JPEG", icc_profile=grey_profile(1.0)))
    assert found[:3] == pytest.approx([55] * 3, abs=2)


def test_gamma_and_primaries_of_a_png_are_followed() -> None:
    base = encoded(plain((55, 55, 55)), "PNG")
    assert first(png_with(base, chunk(b"gAMA", struct.pack(">I", 100_000)))) == pytest.approx([127] * 3, abs=2)
    p3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    content = png_with(
        encoded(plain((100, 200, 100)), "PNG"), chunk(b"gAMA", struct.pack(">I", 45455)), chunk(b"cHRM", p3)
    )
    assert first(content)[0] < 75


@pytest.mark.parametrize(
    "without_curve",
    [b"", chunk(b"gAMA", struct.pack(">I", 45455), wrong_checksum=True), chunk(b"pHYs", bytes(9))],
)
def test_primaries_of_a_png_are_ignored_without_a_curve(without_curve: bytes) -> None:
    p3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
    content = png_with(encoded(plain((100, 200, 100)), "PNG"), without_curve, chunk(b"cHRM", p3))
    assert first(content) == [100, 200, 100]


@pytest.mark.parametrize(
    ("primaries", "transfer", "expected"),
    [(12, 13, [43, 204, 84]), (1, 13, [100, 200, 100]), (1, 1, [100, 200, 100])],
)
def test_code_points_of_an_avif_are_followed(primaries: int, transfer: int, expected: list[int]) -> None:
    content = encoded(plain((100, 200, 100)), "AVIF", quality=100, subsampling="4:4:4")
    at = content.index(b"colrnclx") + 8
    found = first(content[:at] + struct.pack(">HH", primaries, transfer) + content[at + 4 :])
    assert found == pytest.approx(expected, abs=3)


def test_alpha_survives_the_change_of_colours() -> None:
    image = Image.new("RGBA", (8, 8), (200, 40, 90, 128))
    found = first(encoded(image, "PNG", icc_profile=rgb_profile(SWAPPED)))
    assert found[3] == 128 and found[1] > 190
    found = first(cicp(image, 9, 16))
    assert found[3] == 128


def test_one_profile_is_read_once() -> None:
    from app.inference.decoding.colour import _cached_profile

    content = encoded(plain((1, 2, 3)), "JPEG", icc_profile=rgb_profile(SRGB, 1.7))
    shown(content)
    misses = _cached_profile.cache_info().misses
    for _ in range(3):
        shown(content)
    assert _cached_profile.cache_info().misses == misses
