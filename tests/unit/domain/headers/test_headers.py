"""Size and cost by the header, above all for headers that lie."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from app.domain.headers import boxes, jpeg, jxl
from app.domain.headers.layout import Wanted
from app.domain.images import ImageHeader, ImageLimits, Rejection, RejectReason, inspect
from app.inference.decoding.decoder import Decoder
from app.inference.decoding.pictures import DecodedImage, DecodeOptions, OverBudget
from tests.support.files import encoded_jpeg, jpeg_of_size
from tests.support.pictures import encoded, noise, plain

LIMITS = ImageLimits(max_bytes=32 << 20, max_pixels=64_000_000, max_side=65_535, max_frames=500)
WANTED = Wanted(max_frames=500, smallest_side=512, frames=5)


def header(content: bytes, limits: ImageLimits = LIMITS) -> ImageHeader:
    found = inspect(content, limits, WANTED)
    assert isinstance(found, ImageHeader), found
    return found


def reason(content: bytes, limits: ImageLimits = LIMITS) -> RejectReason:
    found = inspect(content, limits, WANTED)
    assert isinstance(found, Rejection), found
    return found.reason


def test_a_baseline_jpeg_counts_as_it_is_decoded() -> None:
    content = jpeg_of_size(encoded_jpeg(noise(1)), 20_000, 14_000)
    found = header(content)
    assert (found.width, found.height) == (20_000, 14_000)
    assert (found.decoded_width, found.decoded_height) == (2500, 1750)
    assert found.decoder_bytes < 100_000_000
    assert inspect(content, LIMITS, Wanted(500)) == Rejection(
        RejectReason.TOO_MANY_PIXELS, "20000 x 14000 pixels, at most 64000000 in all", "jpeg", 20_000, 14_000
    ), "without a scale all of it would be decoded"


def test_a_progressive_jpeg_counts_whole_and_so_do_its_coefficients() -> None:
    assert reason(jpeg_of_size(encoded_jpeg(noise(1), progressive=True), 20_000, 14_000)) in (
        RejectReason.TOO_MANY_PIXELS,
        RejectReason.TOO_COMPLEX,
    )
    found = header(jpeg_of_size(encoded_jpeg(noise(1), progressive=True, subsampling=0), 6000, 4000))
    assert found.decoder_bytes > 6000 * 4000 * 3 * 2
    assert (found.decoded_width, found.decoded_height) == (6000, 4000)


def test_scans_times_pixels_are_bounded_and_ordinary_photographs_pass() -> None:
    progressive = encoded_jpeg(noise(1), progressive=True)
    assert jpeg.read(progressive, WANTED)[1] == 10
    assert isinstance(inspect(jpeg_of_size(progressive, 6000, 4000), LIMITS, WANTED), ImageHeader)
    at = progressive.rindex(b"\xff\xda")
    many = progressive[:at] + progressive[at:-2] * 91 + b"\xff\xd9"
    assert reason(jpeg_of_size(many, 8000, 8000)) is RejectReason.TOO_COMPLEX
    assert isinstance(inspect(jpeg_of_size(many, 800, 800), LIMITS, WANTED), ImageHeader)


def test_scans_inside_a_thumbnail_do_not_count() -> None:
    content = encoded_jpeg(noise(1), progressive=True)
    thumbnail = b"\xff\xda\0\0" * 200
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    assert jpeg.read(content[:2] + segment + content[2:], WANTED)[1] == 10


def test_a_line_of_65500_pixels_is_a_picture() -> None:
    content = encoded_jpeg(plain((200, 10, 12), (1, 65_500)))
    found = Decoder(LIMITS, DecodeOptions(512, 5)).decode(content)
    assert isinstance(found, DecodedImage) and found.frames[0].pixels.shape == (65_500, 1, 3)


def test_a_strip_is_not_reduced_by_its_long_side() -> None:
    strip = encoded_jpeg(plain((1, 2, 3), (8000, 214)))
    found = Decoder(LIMITS, DecodeOptions(512, 5)).decode(strip)
    assert isinstance(found, DecodedImage) and found.frames[0].pixels.shape == (214, 8000, 3)


def _tiled(size: tuple[int, int], tile: tuple[int, int]) -> bytes:
    tags = [(256, size[0]), (257, size[1]), (258, 8), (259, 1), (262, 1), (277, 1), (322, tile[0]), (323, tile[1])]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)


def test_a_tiff_counts_by_its_tiles() -> None:
    assert reason(_tiled((16, 16), (26_736, 26_736))) is RejectReason.TOO_MANY_PIXELS
    found = header(_tiled((16, 16), (4096, 4096)))
    assert (found.width, found.decoded_width) == (16, 4096) and found.decoder_bytes > 4096 * 4096


def test_a_later_page_of_a_tiff_counts() -> None:
    content = encoded(plain((1, 2, 3), (8, 8)), "TIFF", save_all=True, append_images=[plain((1, 2, 3), (400, 300))])
    assert (header(content).width, header(content).decoded_width) == (8, 400)
    assert reason(content, ImageLimits(1 << 20, 100_000, 4096, 10)) is RejectReason.TOO_MANY_PIXELS


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_the_coded_size_counts_not_what_the_boxes_say(kind: str) -> None:
    content = encoded(plain((1, 2, 3), (640, 512)), kind)
    at = content.index(b"ispe") + 8
    lie = content[:at] + struct.pack(">II", 64, 64) + content[at + 8 :]
    found = header(lie)
    assert (found.decoded_width, found.decoded_height) == (640, 512)
    assert reason(lie, ImageLimits(1 << 20, 100_000, 4096, 10)) is RejectReason.TOO_MANY_PIXELS


def test_frames_and_delays_of_an_avif_are_read() -> None:
    frames = [plain((40 * n, 0, 0)) for n in range(4)]
    content = encoded(frames[0], "AVIF", save_all=True, append_images=frames[1:], duration=[10, 20, 3000, 40])
    found = boxes.read_picture(content)
    assert found.frames == 4 and found.delays_ms == [10, 20, 3000, 40] and found.coded


def test_the_picture_inside_counts_where_webp_says_less_outside() -> None:
    content = bytearray(encoded(Image.new("RGBA", (640, 512), (1, 2, 3, 99)), "WEBP"))
    assert content[12:16] == b"VP8X"
    content[24:30] = (63).to_bytes(3, "little") * 2
    found = header(bytes(content))
    assert (found.width, found.height) == (64, 64)
    assert (found.decoded_width, found.decoded_height) == (640, 512)


def test_icons_count_by_the_picture_inside() -> None:
    inner = encoded(plain((1, 2, 3), (400, 300)), "PNG")
    content = struct.pack("<HHHBBBBHHII", 0, 1, 1, 16, 16, 0, 0, 1, 32, len(inner), 22) + inner
    assert (header(content).width, header(content).height) == (400, 300)


def test_interlaced_and_deep_pngs_cost_more() -> None:
    content = bytearray(encoded(plain((1, 2, 3), (640, 512)), "PNG"))
    plain_cost = header(bytes(content)).decoder_bytes
    content[28] = 1
    assert header(bytes(content)).decoder_bytes == plain_cost + 640 * 512 * 3
    content[24], content[25] = 16, 6
    assert header(bytes(content)).decoder_bytes == plain_cost + 640 * 512 * 8


@pytest.mark.parametrize("size", [(8, 8), (300, 200), (1000, 1000), (5000, 3), (320, 213)])
def test_the_size_of_a_jpeg_xl_is_read(size: tuple[int, int]) -> None:
    import imagecodecs
    import numpy as np

    content = bytes(imagecodecs.jpegxl_encode(np.zeros((size[1], size[0], 3), np.uint8), lossless=True))
    assert jxl.read_header(content) == jxl.JxlHeader(*size)
    deep = bytes(imagecodecs.jpegxl_encode(np.zeros((size[1], size[0], 4), np.uint16), lossless=True))
    assert (jxl.read_header(deep).width, jxl.read_header(deep).height) == size


def test_the_decoder_asks_for_its_memory_once_and_before_it_decodes() -> None:
    decoder = Decoder(LIMITS, DecodeOptions(512, 5))
    for kind in ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "HEIF", "JPEG2000"):
        content = encoded(plain((1, 2, 3), (640, 512)), kind)
        asked: list[int] = []
        assert isinstance(decoder.decode(content, asked.append), DecodedImage)
        assert asked == [header(content).decoder_bytes] and asked[0] > 640 * 512

    def refuse(wanted: int) -> None:
        raise OverBudget(f"{wanted} bytes wanted, 1 there")

    found = decoder.decode(encoded(noise(1), "PNG"), refuse)
    assert isinstance(found, Rejection) and found.reason is RejectReason.TOO_MUCH_MEMORY
    assert "bytes wanted, 1 there" in found.detail


def test_a_jpeg_2000_counts_by_box_and_codestream() -> None:
    content = encoded(plain((1, 2, 3), (640, 512)), "JPEG2000")
    at = content.index(b"ihdr") + 4
    lie = content[:at] + struct.pack(">II", 100_000, 60_000) + content[at + 8 :]
    assert reason(lie) is RejectReason.TOO_LARGE_SIDE
    stream = content.index(b"\xff\x4f\xff\x51")
    tiles = content[: stream + 24] + struct.pack(">II", 1, 1) + content[stream + 32 :]
    assert reason(tiles) is RejectReason.UNDECODABLE
    style = content.index(b"\xff\x52")
    small = content[: style + 10] + b"\0\0" + content[style + 12 :]
    assert header(small).decoder_bytes > header(content).decoder_bytes + 640 * 512 * 3 // 16 * 200
