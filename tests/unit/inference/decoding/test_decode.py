"""Every format, every way in which a picture can be odd, and what a hostile file gets."""

from __future__ import annotations

import io
import random
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from app.demo.hostile import hostile_files
from app.domain.images import ImageLimits, Rejection, RejectReason, inspect
from app.inference.decoding.decoder import Decoder
from app.inference.decoding.pictures import DecodedImage, DecodeOptions, Frame
from tests.support.pictures import corners, encoded, noise, plain

# pytest puts its own warning filters in the place of those that the decoder sets.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

LIMITS = ImageLimits(max_bytes=1 << 20, max_pixels=1_000_000, max_side=4096, max_frames=10)
WHOLE = DecodeOptions(smallest_side=0, frames=5)
DECODER = Decoder(LIMITS, WHOLE)
FORMATS = {
    "JPEG": "jpeg",
    "PNG": "png",
    "WEBP": "webp",
    "GIF": "gif",
    "BMP": "bmp",
    "TIFF": "tiff",
    "AVIF": "avif",
    "HEIF": "heic",
}


def decoded(content: bytes, decoder: Decoder = DECODER) -> DecodedImage:
    found = decoder.decode(content)
    assert isinstance(found, DecodedImage), found
    return found


def rejected(content: bytes, decoder: Decoder = DECODER) -> Rejection:
    found = decoder.decode(content)
    assert isinstance(found, Rejection), "decoded"
    return found


def mean(found: DecodedImage) -> list[int]:
    return on_white(found.frames[0])


def on_white(frame: Frame) -> list[int]:
    pixels = frame.pixels.astype(float)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:] / 255
        pixels = pixels[..., :3] * alpha + 255 * (1 - alpha)
    return [round(value) for value in pixels.reshape(-1, 3).mean(axis=0)]


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_its_pixels_and_its_header(kind: str) -> None:
    found = decoded(encoded(plain((200, 40, 90)), kind))
    assert found.header.format == FORMATS[kind]
    assert (found.header.width, found.header.height) == (64, 48)
    assert found.frames[0].pixels.shape == (48, 64, 3) and found.frames[0].pixels.dtype == np.uint8
    assert mean(found) == pytest.approx([200, 40, 90], abs=6)


@pytest.mark.parametrize("kind", FORMATS)
def test_the_header_alone_tells_the_size(kind: str) -> None:
    found = inspect(encoded(plain((1, 2, 3), (320, 200)), kind), LIMITS)
    assert not isinstance(found, Rejection) and (found.width, found.height) == (320, 200)


def test_a_jpeg_without_its_end_marker_is_whole() -> None:
    content = encoded(noise(2), "JPEG", quality=90)
    assert content.endswith(b"\xff\xd9")
    assert (decoded(content[:-2]).frames[0].pixels == decoded(content).frames[0].pixels).all()


def test_bytes_after_the_picture_are_ignored() -> None:
    content = encoded(noise(3), "JPEG", quality=90)
    assert (decoded(content + b"trailer" * 50).frames[0].pixels == decoded(content).frames[0].pixels).all()


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


TURNS: dict[int, Any] = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "AVIF", "HEIF"])
@pytest.mark.parametrize("orientation", TURNS)
def test_pictures_stand_upright_whatever_their_exif_says(kind: str, orientation: int) -> None:
    upright = corners((64, 48))
    # A camera held so stores the picture turned the other way, with the tag that turns it back.
    turn = TURNS[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    content = encoded(stored, kind, exif=_exif(orientation))
    found = decoded(content)
    assert (found.header.width, found.header.height) == (64, 48)
    difference = np.abs(found.frames[0].pixels.astype(int) - np.asarray(upright).astype(int))
    assert difference.mean() < 12, f"{kind} {orientation}"


@pytest.mark.parametrize(("prefix", "upright"), [(b"Exif\0\0", True), (b"Exif\0\1", True), (b"Exit\0\0", False)])
def test_the_byte_that_pads_the_prefix_of_exif_does_not_matter(prefix: bytes, upright: bool) -> None:
    content = encoded(corners(), "JPEG", exif=_exif(6)).replace(b"Exif\0\0", prefix)
    found = decoded(content)
    assert ((found.header.width, found.header.height) == (48, 64)) is upright
    assert found.frames[0].pixels.shape[:2] == (found.header.height, found.header.width)


def test_junk_in_exif_does_not_matter() -> None:
    for junk in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01" * 40):
        content = encoded(corners(), "JPEG")
        segment = b"\xff\xe1" + struct.pack(">H", len(junk) + 2) + junk
        assert decoded(content[:2] + segment + content[2:]).header.width == 64


def test_junk_in_an_icc_profile_does_not_matter() -> None:
    for kind in ("JPEG", "PNG", "WEBP"):
        assert mean(decoded(encoded(plain((200, 40, 90)), kind, icc_profile=b"junk" * 99))) == pytest.approx(
            [200, 40, 90], abs=6
        )


def test_cmyk_is_converted() -> None:
    for kind in ("JPEG", "TIFF"):
        found = decoded(encoded(plain((200, 40, 90)).convert("CMYK"), kind))
        assert mean(found) == pytest.approx([200, 40, 90], abs=8), kind


def test_grey_and_black_and_white_are_converted() -> None:
    assert mean(decoded(encoded(plain((90, 90, 90)).convert("L"), "JPEG"))) == pytest.approx([90] * 3, abs=3)
    assert mean(decoded(encoded(plain((90, 90, 90)).convert("L"), "PNG"))) == [90, 90, 90]
    assert mean(decoded(encoded(Image.new("1", (64, 48), 1), "PNG"))) == [255, 255, 255]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bits_keep_their_brightness(kind: str) -> None:
    values = np.full((48, 64), 0x8000, dtype=np.uint16)
    assert mean(decoded(encoded(Image.fromarray(values), kind))) == pytest.approx([128] * 3, abs=1)


def test_floats_are_read_from_0_to_1() -> None:
    values = np.full((48, 64), 0.5, dtype=np.float32)
    values[0, 0] = np.nan
    assert mean(decoded(encoded(Image.fromarray(values), "TIFF"))) == pytest.approx([127] * 3, abs=2)


def test_palettes_are_looked_up() -> None:
    for kind in ("PNG", "GIF", "BMP"):
        found = decoded(encoded(plain((200, 40, 90)).convert("P", palette=Image.Palette.ADAPTIVE), kind))
        assert mean(found) == pytest.approx([200, 40, 90], abs=4), kind


def test_what_is_transparent_shows_white() -> None:
    clear = Image.new("RGBA", (64, 48), (0, 0, 0, 0))
    for kind in ("PNG", "WEBP", "TIFF", "AVIF"):
        assert mean(decoded(encoded(clear, kind))) == pytest.approx([255] * 3, abs=2), kind
    half = Image.new("RGBA", (64, 48), (0, 0, 0, 128))
    assert mean(decoded(encoded(half, "PNG"))) == pytest.approx([127] * 3, abs=2)
    palette = plain((0, 0, 0)).convert("P")
    assert mean(decoded(encoded(palette, "PNG", transparency=0))) == [255, 255, 255]
    assert mean(decoded(encoded(Image.new("LA", (64, 48), (0, 0)), "PNG"))) == [255, 255, 255]


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF", "AVIF"])
def test_of_an_animation_all_frames_are_seen_up_to_the_limit(kind: str) -> None:
    frames = [plain(colour) for colour in ((250, 0, 0), (0, 250, 0), (0, 0, 250))]
    content = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    found = decoded(content)
    assert found.header.frames == 3 and [frame.index for frame in found.frames] == [0, 1, 2]
    for frame, colour in zip(found.frames, ([250, 0, 0], [0, 250, 0], [0, 0, 250]), strict=True):
        assert on_white(frame) == pytest.approx(colour, abs=8)
    few = Decoder(ImageLimits(1 << 20, 1_000_000, 4096, 2), WHOLE)
    assert rejected(content, few).reason is RejectReason.TOO_MANY_FRAMES


def test_reduced_decoding_keeps_the_short_side_and_the_source_size() -> None:
    small = Decoder(ImageLimits(64 << 20, 64_000_000, 16_384, 10), DecodeOptions(256, 5))
    for kind in ("JPEG", "PNG", "WEBP", "BMP"):
        found = decoded(encoded(corners((2400, 1200)), kind), small)
        height, width, _ = found.frames[0].pixels.shape
        assert 256 <= height < 1200 and width == pytest.approx(2 * height, abs=2), kind
        assert (found.header.width, found.header.height) == (2400, 1200)
    tiny = decoded(encoded(corners((64, 48)), "JPEG"), small)
    assert tiny.frames[0].pixels.shape == (48, 64, 3), "never enlarged"


def test_one_pixel_and_extreme_shapes_are_pictures() -> None:
    assert decoded(encoded(plain((1, 2, 3), (1, 1)), "PNG")).frames[0].pixels.shape == (1, 1, 3)
    assert decoded(encoded(plain((1, 2, 3), (4096, 1)), "PNG")).frames[0].pixels.shape == (1, 4096, 3)


# --- limits and hostile files ---


def _png(width: int, height: int, extra: bytes = b"", body: bytes = b"\0" * 100) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + extra + chunk(b"IDAT", zlib.compress(body)) + chunk(b"IEND", b"")


def test_limits_reject_before_decoding() -> None:
    assert rejected(b"").reason is RejectReason.EMPTY
    assert rejected(b"\xff\xd8\xff" + b"x" * (1 << 20)).reason is RejectReason.TOO_MANY_BYTES
    assert rejected(_png(1001, 1000)).reason is RejectReason.TOO_MANY_PIXELS
    assert rejected(_png(4097, 1)).reason is RejectReason.TOO_LARGE_SIDE
    bomb = rejected(_png(2**31 - 1, 2**31 - 1))
    assert bomb.reason is RejectReason.TOO_LARGE_SIDE and bomb.width == 2**31 - 1
    assert rejected(_png(0, 10)).reason is RejectReason.UNDECODABLE


@pytest.mark.parametrize("kind", FORMATS)
def test_no_format_gets_past_the_pixel_limit(kind: str) -> None:
    strict = Decoder(ImageLimits(1 << 20, 3000, 4096, 10), WHOLE)
    assert rejected(encoded(plain((1, 2, 3)), kind), strict).reason is RejectReason.TOO_MANY_PIXELS


def test_a_frame_that_sticks_out_of_its_gif_counts() -> None:
    content = bytearray(encoded(plain((1, 2, 3), (8, 8)), "GIF"))
    at = content.index(b"\x2c\0\0\0\0\x08\0\x08\0")
    content[at + 5 : at + 9] = struct.pack("<HH", 60000, 60000)
    assert rejected(bytes(content)).reason is RejectReason.TOO_LARGE_SIDE


def test_an_endless_gif_is_counted_no_further_than_the_limit() -> None:
    content = encoded(plain((1, 2, 3), (8, 8)), "GIF")
    frame = content[content.index(b"\x2c") : -1]
    assert rejected(content[:-1] + frame * 9999 + b";").reason is RejectReason.TOO_MANY_FRAMES


def test_a_jpeg_of_endless_scans_is_too_complex() -> None:
    content = encoded(noise(4, (32, 32)), "JPEG", progressive=True)
    at = content.rindex(b"\xff\xda")
    assert rejected(content[:at] + content[at:-2] * 200).reason is RejectReason.TOO_COMPLEX


def test_compressed_text_that_explodes_is_not_read() -> None:
    text = zlib.compress(b"\0" * (200 << 20), 9)
    body = b"Comment\0\0" + text
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    found = DECODER.decode(_png(8, 8, extra=chunk, body=b"\0" * 8 * 25))
    assert isinstance(found, (DecodedImage, Rejection))
    if isinstance(found, Rejection):
        assert found.reason is RejectReason.UNDECODABLE


def test_a_tiff_that_goes_round_in_circles_ends() -> None:
    content = bytearray(encoded(plain((1, 2, 3)), "TIFF"))
    (at,) = struct.unpack_from("<I", content, 4)
    (count,) = struct.unpack_from("<H", content, at)
    struct.pack_into("<I", content, at + 2 + 12 * count, at)
    assert rejected(bytes(content)).reason is RejectReason.UNDECODABLE


def _big_tiff(order: str, *words: int) -> bytes:
    return (b"II+\0" if order == "<" else b"MM\0+") + struct.pack(f"{order}HH{len(words)}Q", 8, 0, *words)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("far", [16, 2**31, 2**62, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_tiff_directory_outside_the_file_is_undecodable(order: str, far: int) -> None:
    whole = encoded(plain((1, 2, 3)), "TIFF", big_tiff=True)
    (first,) = struct.unpack_from("<Q", whole, 8)
    (count,) = struct.unpack_from("<Q", whole, first)
    second = whole[: first + 8 + 20 * count] + struct.pack("<Q", max(far, len(whole)))
    for content in (_big_tiff(order, far), _big_tiff(order, 16, far), second):
        assert rejected(content).reason is RejectReason.UNDECODABLE


@pytest.mark.parametrize(
    "content",
    [
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"%PDF-1.7\n",
        b"MZ\x90\0",
        b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        b"\0" * 100,
        b"\xff\xd8",
        "ein Text".encode("utf-16"),
    ],
)
def test_what_is_no_picture_of_ours_is_unsupported(content: bytes) -> None:
    assert rejected(content).reason is RejectReason.UNSUPPORTED_FORMAT


def test_the_bad_files_of_the_demo_end_as_it_says_they_must() -> None:
    for bad in hostile_files(encoded(noise(5), "JPEG"), random.Random(1)):
        found = DECODER.decode(bad.body)
        if bad.scored is not None:
            assert isinstance(found, DecodedImage) is bad.scored, bad.kind


def test_equal_bytes_give_equal_rejections() -> None:
    content = encoded(noise(5), "AVIF")[:300]
    assert rejected(content) == rejected(content)


SEEDS = [
    *(encoded(noise(7, (24, 20)), kind) for kind in FORMATS),
    encoded(noise(7, (24, 20)), "TIFF", big_tiff=True),
    encoded(noise(7, (24, 20)), "JPEG", exif=_exif(6)),
    encoded(noise(7, (24, 20)), "PNG", save_all=True, append_images=[noise(8, (24, 20))]),
    encoded(noise(7, (24, 20)), "WEBP", save_all=True, append_images=[noise(8, (24, 20))]),
]
# What a field of 2, 4 or 8 bytes holds when somebody means harm: offsets, counts and lengths at every edge.
EDGES = [0, 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=4)), min_size=1, max_size=6),
    st.floats(0, 1),
)
def test_no_damage_ever_raises(seed: bytes, damage: list[tuple[float, bytes]], cut: float) -> None:
    content = bytearray(seed)
    for place, junk in damage:
        at = int(place * (len(content) - 1))
        content[at : at + len(junk)] = junk
    if cut > 0.7:
        content = content[: int(len(content) * cut)]
    found = DECODER.decode(bytes(content))
    if isinstance(found, DecodedImage):
        height, width, _ = found.frames[0].pixels.shape
        assert 0 < height * width <= LIMITS.max_pixels
    else:
        assert found.reason in RejectReason and found.detail


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([seed[:16] for seed in SEEDS]), st.binary(max_size=400))
def test_no_junk_behind_a_good_start_ever_raises(start: bytes, junk: bytes) -> None:
    assert isinstance(DECODER.decode(start + junk), (DecodedImage, Rejection))


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(
        st.tuples(
            st.integers(2, 400), st.sampled_from(EDGES), st.sampled_from([2, 4, 8]), st.sampled_from(["little", "big"])
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_no_number_in_a_header_ever_raises(seed: bytes, fields: list[tuple[int, int, int, Any]]) -> None:
    content = bytearray(seed)
    for at, value, width, order in fields:
        content[at : at + width] = (value % 2 ** (8 * width)).to_bytes(width, order)
    assert isinstance(DECODER.decode(bytes(content)), (DecodedImage, Rejection))


def test_pictures_of_a_stream_are_not_touched() -> None:
    content = encoded(noise(8), "JPEG", quality=95)
    whole = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    assert np.abs(decoded(content).frames[0].pixels.astype(int) - whole).mean() < 1.5
