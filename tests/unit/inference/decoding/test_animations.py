"""Animations: which frames are chosen, and that they are put together as browsers do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from app.domain.images import ImageLimits, Rejection
from app.inference.decoding.decoder import Decoder
from app.inference.decoding.pictures import DecodedImage, DecodeOptions
from app.inference.decoding.selection import choose_frames, shown_ms
from tests.support.files import ApngPart, apng
from tests.support.pictures import encoded, plain

LIMITS = ImageLimits(max_bytes=8 << 20, max_pixels=1_000_000, max_side=4096, max_frames=100)
DECODER = Decoder(LIMITS, DecodeOptions(smallest_side=0, frames=5))
CLEAR = (0, 0, 0, 0)
RED, GREEN, BLUE = (255, 0, 0, 255), (0, 255, 0, 255), (0, 0, 255, 255)


def decoded(content: bytes) -> DecodedImage:
    found = DECODER.decode(content)
    assert isinstance(found, DecodedImage), found
    return found


def rgba(found: DecodedImage, frame: int, x: int, y: int) -> tuple[int, ...]:
    """One pixel of a frame, with alpha; a clear one has no colour."""
    pixel = found.frames[frame].pixels[y, x]
    values = tuple(int(value) for value in pixel) + ((255,) if len(pixel) == 3 else ())
    return values if values[3] else CLEAR


@given(st.lists(st.integers(0, 5000), min_size=1, max_size=80), st.integers(1, 8))
def test_the_choice_holds_first_last_and_longest_and_no_frame_twice(delays: list[int], most: int) -> None:
    chosen = choose_frames(delays, most)
    assert len(chosen) == min(most, len(delays)) and list(chosen) == sorted(set(chosen))
    assert all(0 <= index < len(delays) for index in chosen)
    longest = max(range(len(delays)), key=lambda index: (shown_ms(delays[index]), -index))
    assert longest in chosen
    assert most < 2 or len(delays) - 1 in chosen
    assert most < 3 or 0 in chosen


def test_other_frames_are_spread_over_time() -> None:
    assert choose_frames([100] * 9, 5) == (0, 2, 4, 6, 8)
    # The ninth frame is shown longest, so that what begins after it is far from it in time.
    assert choose_frames([20] * 8 + [2000] + [100] * 40, 5) == (0, 8, 18, 33, 48)
    assert choose_frames([100, 100, 9000, 100], 1) == (2,)


@pytest.mark.parametrize(("delay", "shown"), [(0, 100), (10, 100), (11, 11), (50, 50)])
def test_frames_that_ask_for_no_time_are_shown_for_a_tenth_of_a_second(delay: int, shown: int) -> None:
    assert shown_ms(delay) == shown


def test_the_default_image_of_an_apng_is_no_frame_unless_it_says_so() -> None:
    parts = [ApngPart(Image.new("RGBA", (8, 6), GREEN)), ApngPart(Image.new("RGBA", (8, 6), BLUE))]
    hidden = decoded(apng((8, 6), parts, default=Image.new("RGBA", (8, 6), RED)))
    assert hidden.header.frames == 2 and rgba(hidden, 0, 1, 1) == GREEN and rgba(hidden, 1, 1, 1) == BLUE
    one = decoded(apng((8, 6), parts[:1], default=Image.new("RGBA", (8, 6), RED)))
    assert one.header.frames == 1 and rgba(one, 0, 1, 1) == GREEN


def test_frames_of_an_apng_are_disposed_of_and_blended() -> None:
    square = Image.new("RGBA", (4, 4), GREEN)
    half = Image.new("RGBA", (4, 4), (0, 0, 255, 128))
    hole = Image.new("RGBA", (4, 4), CLEAR)
    content = apng(
        (8, 8),
        [
            ApngPart(Image.new("RGBA", (8, 8), RED)),
            ApngPart(square, 0, 0, dispose=2),  # goes back to red
            ApngPart(half, 0, 0, dispose=1, blend=1),  # over red, then cleared
            ApngPart(hole, 4, 4, blend=1),  # changes nothing
            ApngPart(hole, 4, 0, blend=0),  # makes a hole
        ],
    )
    found = decoded(content)
    assert [frame.index for frame in found.frames] == [0, 1, 2, 3, 4]
    assert rgba(found, 1, 0, 0) == GREEN and rgba(found, 1, 7, 7) == RED
    assert rgba(found, 2, 0, 0) == pytest.approx((127, 0, 128, 255), abs=1)
    assert rgba(found, 3, 0, 0) == CLEAR and rgba(found, 3, 7, 7) == RED
    assert rgba(found, 4, 5, 0) == CLEAR and rgba(found, 4, 5, 5) == RED


def test_an_apng_ends_at_the_frame_that_leaves_its_canvas() -> None:
    parts = [ApngPart(Image.new("RGBA", (8, 8), RED)), ApngPart(Image.new("RGBA", (8, 8), GREEN), left=1)]
    assert decoded(apng((8, 8), parts)).header.frames == 1


@pytest.mark.parametrize("disposal", [1, 2, 3])
def test_every_frame_of_a_gif_is_as_if_all_had_been_drawn(disposal: int) -> None:
    parts = []
    for index in range(12):
        part = Image.new("RGBA", (40, 30), CLEAR)
        part.paste((20 * index, 255 - 20 * index, 90, 255), (3 * index, 5, 3 * index + 6, 25))
        parts.append(part)
    content = encoded(parts[0], "GIF", save_all=True, append_images=parts[1:], disposal=disposal, duration=50)
    few = decoded(content)
    every = Decoder(LIMITS, DecodeOptions(smallest_side=0, frames=50)).decode(content)
    assert isinstance(every, DecodedImage) and len(every.frames) == few.header.frames > 5
    assert len(few.frames) == 5 and few.frames[-1].index == few.header.frames - 1
    for frame in few.frames:
        assert (frame.pixels == every.frames[frame.index].pixels).all()
    if disposal == 1:
        assert rgba(few, -1, 1, 10)[3] == 255, "the first part is still there"


def test_a_first_frame_that_is_clear_does_not_hide_the_rest() -> None:
    content = encoded(
        Image.new("RGBA", (20, 10), CLEAR), "GIF", save_all=True, append_images=[Image.new("RGBA", (20, 10), RED)]
    )
    found = decoded(content)
    assert rgba(found, 0, 3, 3) == CLEAR and rgba(found, 1, 3, 3) == RED


@pytest.mark.parametrize("kind", ["WEBP", "AVIF"])
def test_the_frame_shown_longest_is_among_those_of_an_animation(kind: str) -> None:
    frames = [plain((8 * index, 255 - 8 * index, 128)) for index in range(30)]
    delays = [30] * 30
    delays[17] = 3000
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=delays, quality=90)
    found = decoded(content)
    indices = [frame.index for frame in found.frames]
    assert found.header.frames == 30 and len(indices) == 5 and {0, 17, 29} <= set(indices)
    for frame in found.frames:
        mean = frame.pixels[..., :3].reshape(-1, 3).mean(axis=0)
        assert mean == pytest.approx([8 * frame.index, 255 - 8 * frame.index, 128], abs=12)


def test_pages_of_a_tiff_are_of_one_size() -> None:
    content = encoded(plain((255, 0, 0), (40, 20)), "TIFF", save_all=True, append_images=[plain((0, 0, 255), (40, 80))])
    found = decoded(content)
    assert [frame.pixels.shape for frame in found.frames] == [(20, 40, 3), (20, 40, 3)]
    assert found.frames[1].pixels[10, 2].tolist() == [0, 0, 255]
    assert found.frames[1].pixels[10, 30].tolist() == [255] * 3


def test_a_long_animation_keeps_no_frame_but_the_chosen_ones() -> None:
    # Frames that hardly differ are merged by encoders.
    frames = [plain((index, 255 * (index % 2), 0), (64, 64)) for index in range(101)]
    for kind in ("GIF", "WEBP", "PNG"):
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
        assert isinstance(DECODER.decode(content), Rejection)
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:100])
        found = decoded(content)
        assert found.header.frames == 100 and [frame.index for frame in found.frames][::4] == [0, 99]
        assert np.abs(found.frames[-1].pixels[..., 0].astype(int) - 99).max() <= 6
