"""Which parts of a picture are looked at, and that together they show all of it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.images import ImageFormat, ImageHeader, Rejection, RejectReason
from app.domain.renditions import STRIP_RATIO, Box, quadrants, square_count, strip_squares
from app.inference.decoding.pictures import DecodedImage, Frame
from app.inference.decoding.renditions import Shown, on_white, renditions_of
from app.inference.model_input import Pixels

sides = st.integers(1, 3000)


@given(sides, sides)
def test_squares_cover_a_strip_and_neighbours_overlap(width: int, height: int) -> None:
    squares = strip_squares(width, height)
    assert len(squares) == square_count(width, height)
    if max(width, height) <= STRIP_RATIO * min(width, height):
        assert squares == ()
        return
    side = min(width, height)
    for box in squares:
        assert (box.right - box.left, box.bottom - box.top) == (side, side)
        assert box.left >= 0 and box.right <= width and box.top >= 0 and box.bottom <= height
    starts = [box.left if width > height else box.top for box in squares]
    assert starts[0] == 0 and starts[-1] + side == max(width, height)
    # Rounding to pixels may cost one of them.
    assert all(0 <= later - earlier <= 0.75 * side + 1 for earlier, later in itertools.pairwise(starts))


@given(sides, sides)
def test_quadrants_cover_a_picture_without_overlap(width: int, height: int) -> None:
    boxes = quadrants(width, height, 1)
    if max(width, height) > STRIP_RATIO * min(width, height):
        assert boxes == ()
        return
    assert sum((box.right - box.left) * (box.bottom - box.top) for box in boxes) == width * height


def test_quadrants_are_for_large_pictures_and_can_be_switched_off() -> None:
    assert quadrants(1000, 1000, 1_000_001) == () and quadrants(1000, 1000, 0) == ()
    assert quadrants(3, 2, 6) == (Box(0, 0, 1, 1), Box(1, 0, 3, 1), Box(0, 1, 1, 2), Box(1, 1, 3, 2))


def image(*frames: Pixels, width: int = 0, height: int = 0) -> DecodedImage:
    rows, columns = frames[0].shape[:2]
    header = ImageHeader(ImageFormat.PNG, width or columns, height or rows, len(frames))
    return DecodedImage(header, False, tuple(Frame(pixels, number * 2) for number, pixels in enumerate(frames)))


def shown(found: DecodedImage, from_pixels: int = 0, most: int = 64) -> tuple[Shown, ...]:
    made = renditions_of(found, from_pixels, most)
    assert not isinstance(made, Rejection), made
    return made


def filled(*levels: int, shape: tuple[int, int] = (40, 60)) -> Pixels:
    return np.full((*shape, len(levels)), levels, dtype=np.uint8)


def test_an_ordinary_picture_has_one_rendition_of_its_own_pixels() -> None:
    (one,) = shown(image(filled(1, 2, 3), width=600, height=400))
    assert (one.rendition.frame, one.rendition.left, one.rendition.right, one.rendition.ground) == (0, 0.0, 1.0, "")
    assert (one.picture.source_width, one.picture.source_height) == (600, 400)
    assert (one.picture.rgb == (1, 2, 3)).all()


def test_each_frame_is_a_rendition_with_its_index_in_the_file() -> None:
    found = shown(image(filled(1, 1, 1), filled(2, 2, 2), filled(3, 3, 3)))
    assert [(one.rendition.frame, int(one.picture.rgb[0, 0, 0])) for one in found] == [(0, 1), (2, 2), (4, 3)]


def test_a_strip_is_seen_whole_and_by_squares() -> None:
    pixels = filled(0, 0, 0, shape=(100, 400))
    pixels[:, 300:] = 255
    found = shown(image(pixels))
    assert [one.picture.rgb.shape[:2] for one in found] == [(100, 400)] + [(100, 100)] * 5
    assert found[0].rendition.right == 1.0 and found[-1].rendition.left == 0.75
    assert found[-1].picture.rgb.min() == 255 and found[1].picture.rgb.max() == 0


def test_a_reduced_strip_names_its_squares_by_fractions_of_the_source() -> None:
    found = shown(image(filled(0, 0, 0, shape=(50, 200)), width=4000, height=1000))
    assert found[2].picture.source_width == found[2].picture.source_height == 1000
    assert found[-1].rendition.right == 1.0


def test_large_pictures_are_seen_by_quadrants_too() -> None:
    pixels = filled(0, 0, 0)
    pixels[:20, 30:] = 200
    found = shown(image(pixels, width=1200, height=800), from_pixels=960_000)
    assert len(found) == 5 and found[2].picture.rgb.min() == 200 and found[1].picture.rgb.max() == 0
    assert (found[2].rendition.left, found[2].rendition.top, found[2].rendition.bottom) == (0.5, 0.0, 0.5)
    assert len(shown(image(pixels, width=1200, height=799), from_pixels=960_000)) == 1


def test_what_transparency_hides_on_white_is_seen_on_dark() -> None:
    pixels = filled(255, 255, 255, 0)
    pixels[10:30, 20:40, 3] = 255
    white, dark = shown(image(pixels))
    assert (white.rendition.ground, dark.rendition.ground) == ("white", "dark")
    assert white.picture.rgb.min() == 255
    assert dark.picture.rgb[20, 30, 0] == 255 and dark.picture.rgb[0, 0, 0] < 40


def test_transparency_that_nobody_sees_costs_no_second_look() -> None:
    pixels = filled(90, 80, 70, 255)
    pixels[..., 3] = 250
    (one,) = shown(image(pixels))
    assert one.rendition.ground == "white"


def test_half_transparent_pixels_mix_with_the_ground() -> None:
    assert (on_white(filled(0, 100, 255, 128)) == (127, 177, 255)).all()
    assert (on_white(filled(9, 8, 7)) == (9, 8, 7)).all()


@pytest.mark.parametrize("shape", [(65_500, 1), (1, 65_500), (10, 600)])
def test_a_line_is_too_many_renditions(shape: tuple[int, int]) -> None:
    found = renditions_of(image(filled(0, 0, 0, shape=shape)), 0, 64)
    assert isinstance(found, Rejection) and found.reason is RejectReason.TOO_MANY_RENDITIONS
    assert str(1 + square_count(shape[1], shape[0])) in found.detail


def test_frames_and_grounds_count_too() -> None:
    pixels = filled(255, 255, 255, 0)
    pixels[10:30, 20:40, 3] = 255
    assert len(shown(image(*[pixels] * 4), most=8)) == 8
    assert isinstance(renditions_of(image(*[pixels] * 4), 0, 7), Rejection)
