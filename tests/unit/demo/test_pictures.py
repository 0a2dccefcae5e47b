"""The demo's pictures: what was promised of them, and that bad files are as small as they are bad."""

from __future__ import annotations

import hashlib
import io
import random
import struct
from pathlib import Path

import pytest
from PIL import Image

from app.demo.hostile import hostile_files
from app.demo.photographs import packaged_photographs
from app.demo.pictures import Picture, folder_pictures, made_pictures


def _made(count: int, seed: int = 7) -> list[Picture]:
    return list(made_pictures(count, seed=seed, prefix="demo/run/", photographs=packaged_photographs()))


@pytest.fixture(scope="module")
def hundred() -> list[Picture]:
    return _made(100)


def test_equal_seeds_give_equal_bytes() -> None:
    assert _made(30) == _made(30)
    assert _made(30, seed=8) != _made(30)


def test_thirty_percent_are_uploads_of_the_same_bytes_under_new_keys(hundred: list[Picture]) -> None:
    bodies: dict[str, bytes] = {}
    for picture in hundred:
        assert picture.key not in bodies
        if picture.repeats is not None:
            assert bodies[picture.repeats] == picture.body
        bodies[picture.key] = picture.body
    assert sum(picture.repeats is not None for picture in hundred) == 30
    fresh = [hashlib.sha256(picture.body).digest() for picture in hundred if picture.repeats is None]
    assert len(set(fresh)) == len(fresh)


def test_some_are_bad_and_most_can_be_read(hundred: list[Picture]) -> None:
    bad = [picture for picture in hundred if picture.scored is False]
    assert 3 <= len(bad) <= 8
    for picture in hundred:
        if picture.scored:
            with Image.open(io.BytesIO(picture.body)) as image:
                image.load()


@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_few_pictures_are_possible(count: int) -> None:
    made = _made(count)
    assert len(made) == count
    assert made[0].repeats is None


def test_bad_files_are_small_and_some_would_be_huge() -> None:
    good = io.BytesIO()
    Image.effect_noise((320, 240), 60).convert("RGB").save(good, "JPEG")
    files = {one.kind: one for one in hostile_files(good.getvalue(), random.Random(1))}
    assert all(len(one.body) < 64 * 1024 for one in files.values())
    assert files["empty"].body == b""
    assert _header_size(files["bomb"].body) == (12_000, 12_000)
    assert _header_size(files["too-wide"].body) == (200_000, 8)
    with Image.open(io.BytesIO(files["too-many-frames"].body)) as image:
        assert image.format == "GIF"
        assert getattr(image, "n_frames", 1) == 2_000
    assert b"\xff\xdc\xff\xdc" in files["huge-dimensions"].body
    with Image.open(io.BytesIO(files["jpeg-and-zip"].body)) as image:
        image.load()


def _header_size(png: bytes) -> tuple[int, int]:
    """Width and height as a PNG's header tells them; Pillow's own bomb check may be set either way."""
    width, height = struct.unpack_from(">II", png, 16)
    return width, height


def test_a_folder_of_the_user_goes_up_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for number in range(7):
        Image.new("RGB", (20 + number, 20)).save(tmp_path / "inner" / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    pictures = list(folder_pictures(500, seed=1, prefix="demo/", folder=tmp_path))
    fresh = [picture for picture in pictures if picture.repeats is None]
    assert {picture.body for picture in fresh} == {path.read_bytes() for path in tmp_path.rglob("*.png")}
    assert len(pictures) - len(fresh) == 3
    assert len({picture.key for picture in pictures}) == len(pictures)
