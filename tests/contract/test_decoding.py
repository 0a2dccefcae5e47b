"""Contract of every `Decoding`: the pool of child processes and the twin that tests use."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator

import numpy as np
import pytest
import pytest_asyncio
from PIL import Image

from app.domain.images import Rejection, RejectReason
from app.domain.renditions import square_count
from app.inference.budget import Ticket
from app.inference.decoding.pool import DecodePool, Decoding
from app.inference.decoding.process import PreparedImage
from app.inference.decoding.protocol import PrepareJob, ThumbnailJob
from app.settings import InferenceSettings, LimitSettings
from tests.support.decoding.inline import InlineDecoding
from tests.support.pictures import encoded, jpeg, noise, plain
from tests.support.toy_models import INPUT, WIDE_INPUT

LIMITS = LimitSettings(max_bytes=1 << 20, max_pixels=1_000_000, max_renditions=8)
JOB = PrepareJob((INPUT, WIDE_INPUT), 32, 5, 0, 8)


@pytest_asyncio.fixture(params=["twin", "pool"])
async def decoding(request: pytest.FixtureRequest) -> AsyncIterator[Decoding]:
    made: Decoding = (
        InlineDecoding(LIMITS) if request.param == "twin" else DecodePool(LIMITS, InferenceSettings(decode_processes=1))
    )
    yield made
    await made.close()


async def prepared(decoding: Decoding, body: bytes) -> PreparedImage:
    found = await decoding.run(body, JOB, Ticket())
    assert isinstance(found.result, PreparedImage), found.result
    found.release()
    found.release()
    return found.result


async def test_a_picture_becomes_one_input_for_each_geometry(decoding: Decoding) -> None:
    found = await prepared(decoding, jpeg((250, 0, 0)))
    assert [one.pixels.shape for one in found.inputs[0]] == [(8, 8, 3), (32, 32, 3)]
    assert found.inputs[0][0].pixels[..., 0].min() > 240 and found.inputs[0][0].statistics is None
    header = found.prepared.header
    assert (header.format, header.width, header.height, header.frames) == ("jpeg", 64, 48, 1)
    assert not found.prepared.truncated and len(found.prepared.renditions) == 1


async def test_every_rendition_has_its_inputs(decoding: Decoding) -> None:
    pixels = np.zeros((32, 96, 3), np.uint8)
    pixels[:, 64:] = 255
    found = await prepared(decoding, encoded(Image.fromarray(pixels), "PNG"))
    assert len(found.inputs) == len(found.prepared.renditions) == 1 + square_count(96, 32)
    assert found.inputs[-1][0].pixels.min() == 255 and found.inputs[1][0].pixels.max() == 0


async def test_a_file_that_ends_early_says_so(decoding: Decoding) -> None:
    body = encoded(noise(1, (200, 200)), "PNG")
    assert (await prepared(decoding, body[: len(body) * 3 // 4])).prepared.truncated


async def test_a_thumbnail_is_a_jpeg_of_the_size_asked_for(decoding: Decoding) -> None:
    found = (await decoding.run(encoded(plain((0, 0, 250), (300, 200)), "PNG"), ThumbnailJob(60, 80), Ticket())).result
    assert isinstance(found, bytes)
    image = Image.open(io.BytesIO(found))
    assert (image.format, image.size) == ("JPEG", (60, 40))


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", RejectReason.EMPTY),
        (b"no picture at all", RejectReason.UNSUPPORTED_FORMAT),
        (bytes(2 << 20), RejectReason.TOO_MANY_BYTES),
        (b"\xff\xd8\xff".ljust(10 << 20, b"x"), RejectReason.TOO_MANY_BYTES),
        (encoded(plain((0, 0, 0), (1500, 1000)), "PNG"), RejectReason.TOO_MANY_PIXELS),
        (encoded(plain((0, 0, 0), (4, 900)), "PNG"), RejectReason.TOO_MANY_RENDITIONS),
    ],
)
async def test_what_is_no_picture_of_ours_is_a_rejection(decoding: Decoding, body: bytes, reason: RejectReason) -> None:
    found = (await decoding.run(body, JOB, Ticket())).result
    assert isinstance(found, Rejection) and found.reason is reason


async def test_several_at_once_get_their_own_pixels(decoding: Decoding) -> None:
    bodies = [encoded(noise(seed), "PNG") for seed in range(6)]
    alone = [await prepared(decoding, body) for body in bodies]
    together = await asyncio.gather(*(prepared(decoding, body) for body in bodies))
    for one, other in zip(alone, together, strict=True):
        assert (one.inputs[0][1].pixels == other.inputs[0][1].pixels).all()


async def test_a_closed_one_can_be_closed_again(decoding: Decoding) -> None:
    await prepared(decoding, jpeg((1, 2, 3)))
    await decoding.close()
    await decoding.close()
