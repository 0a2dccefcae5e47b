"""Files that browsers show although something is wrong with them."""

from __future__ import annotations

import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from app.domain.images import ImageLimits, Rejection, RejectReason
from app.inference.decoding.decoder import Decoder
from app.inference.decoding.pictures import DecodedImage, DecodeOptions
from app.inference.model_input import Pixels
from tests.support.files import PNG_SIGNATURE, bmp, chunk, png_with
from tests.support.pictures import encoded, noise, plain

LIMITS = ImageLimits(max_bytes=1 << 20, max_pixels=1_000_000, max_side=4096, max_frames=10)
DECODER = Decoder(LIMITS, DecodeOptions(smallest_side=0, frames=5))


def decoded(content: bytes) -> DecodedImage:
    found = DECODER.decode(content)
    assert isinstance(found, DecodedImage), found
    return found


def pixels(content: bytes) -> Pixels:
    return decoded(content).frames[0].pixels


def smooth(size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A picture whose every row differs, and that survives lossy formats."""
    across, down = np.meshgrid(np.linspace(0, 200, size[0]), np.linspace(0, 255, size[1]))
    return Image.fromarray(np.stack([across, down, 255 - down], axis=2).astype(np.uint8))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
@pytest.mark.parametrize("part", [0.6, 0.9, 0.98])
def test_what_is_left_of_a_cut_off_file_is_decoded(kind: str, part: float) -> None:
    # Rows of an interlaced picture come in another order.
    content = encoded(noise(1, (160, 120)), kind, **({"interlace": False} if kind == "GIF" else {}))
    whole, found = pixels(content), decoded(content[: int(len(content) * part)])
    assert found.truncated and (found.header.width, found.header.height) == (160, 120)
    left = found.frames[0].pixels
    # BMP is stored from the bottom up; where the file has ended nothing is shown.
    rows = slice(-40, None) if kind == "BMP" else slice(0, 40)
    assert np.abs(left[rows, :, :3].astype(int) - whole[rows].astype(int)).mean() < 8
    assert kind == "GIF" or left.shape[2] == 3 or left[..., 3].min() == 0


def test_a_progressive_jpeg_cut_off_is_shown_less_refined() -> None:
    content = encoded(smooth(), "JPEG", progressive=True, quality=90)
    found = decoded(content[: len(content) // 2])
    assert found.truncated and found.frames[0].pixels.shape == (120, 160, 3)
    assert np.abs(found.frames[0].pixels.astype(int) - np.asarray(smooth()).astype(int)).mean() < 20


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "AVIF", "HEIF", "JPEG2000"])
def test_a_whole_file_is_not_called_truncated(kind: str) -> None:
    assert not decoded(encoded(smooth(), kind)).truncated


@pytest.mark.parametrize("kind", ["AVIF", "HEIF"])
def test_formats_of_which_browsers_show_no_part_are_rejected_as_truncated(kind: str) -> None:
    content = encoded(noise(1), kind)
    found = DECODER.decode(content[: int(len(content) * 0.8)])
    assert isinstance(found, Rejection) and found.reason is RejectReason.TRUNCATED


def test_a_file_cut_off_before_its_pixels_is_rejected() -> None:
    content = encoded(noise(1), "PNG")
    found = DECODER.decode(content[:50])
    assert isinstance(found, Rejection) and found.reason in (RejectReason.TRUNCATED, RejectReason.UNDECODABLE)


def test_damage_inside_a_jpeg_is_no_truncation() -> None:
    content = bytearray(encoded(noise(2, (160, 120)), "JPEG", quality=90))
    at = len(content) // 2
    content[at : at + 60] = b"\x5a" * 60
    found = decoded(bytes(content))
    assert not found.truncated and found.frames[0].pixels.shape == (120, 160, 3)


@pytest.mark.parametrize("marker", [b"\xff\xdb", b"\xff\xc0", b"\xff\xc4", b"\xff\xda"])
def test_stray_bytes_between_segments_are_passed_over(marker: bytes) -> None:
    content = encoded(smooth(), "JPEG")
    at = content.index(marker)
    assert (pixels(content[:at] + b"\0\x11stray" + content[at:]) == pixels(content)).all()


@pytest.mark.parametrize("segment", [b"\xff\xee\0\x07Adobe", b"\xff\xee\0\x04Ad", b"\xff\xee\0\x02"])
def test_a_short_adobe_segment_does_not_matter(segment: bytes) -> None:
    content = encoded(smooth(), "JPEG")
    assert np.abs(pixels(content[:2] + segment + content[2:]).astype(int) - pixels(content).astype(int)).max() <= 1


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP"])
def test_what_follows_a_picture_does_not_matter_within_the_limit_of_bytes(kind: str) -> None:
    content = encoded(smooth(), kind)
    assert (pixels(content.ljust(LIMITS.max_bytes, b"\0")) == pixels(content)).all()


def test_a_picture_itself_too_large_is_rejected() -> None:
    found = DECODER.decode(b"\xff\xd8\xff" + b"x" * (2 << 20))
    assert isinstance(found, Rejection) and found.reason is RejectReason.TOO_MANY_BYTES


@pytest.mark.parametrize("kind", [b"tEXt", b"gAMA", b"pHYs", b"zTXt", b"IEND"])
def test_wrong_checksums_of_chunks_without_pixels_do_not_matter(kind: bytes) -> None:
    content = encoded(smooth(), "PNG")
    if kind == b"IEND":
        broken = content[:-12] + chunk(b"IEND", b"", wrong_checksum=True)
    else:
        broken = png_with(content, chunk(kind, struct.pack(">I", 45455), wrong_checksum=True))
    assert (pixels(broken) == np.asarray(smooth())).all()


@pytest.mark.parametrize("part_bytes", [1 << 20, 1000, 7])
@pytest.mark.parametrize("image", [smooth(), noise(4, (160, 120)), plain((1, 2, 3), (900, 900))])
def test_a_wrong_checksum_of_the_pixels_does_not_matter(image: Image.Image, part_bytes: int) -> None:
    rows = np.asarray(image).reshape(image.height, -1)
    data = zlib.compress(np.hstack([np.zeros((image.height, 1), np.uint8), rows]).tobytes())[:-4] + b"oops"
    parts = [chunk(b"IDAT", data[at : at + part_bytes]) for at in range(0, len(data), part_bytes)]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", *image.size, 8, 2, 0, 0, 0))
    found = decoded(PNG_SIGNATURE + head + b"".join(parts) + chunk(b"IEND", b""))
    assert not found.truncated and (found.frames[0].pixels == np.asarray(image)).all()


@pytest.mark.parametrize(
    "text",
    [
        chunk(b"tEXt", b"C\0" + b"a" * 900_000),
        chunk(b"zTXt", b"C\0\0" + zlib.compress(b"a" * (80 << 20))),
        chunk(b"iTXt", b"C\0\1\0\0\0" + zlib.compress(b"a" * (80 << 20))),
    ],
)
def test_oversized_text_does_not_matter(text: bytes) -> None:
    assert (pixels(png_with(encoded(smooth(), "PNG"), text)) == np.asarray(smooth())).all()


def test_a_gif_without_a_loop_count_is_shown() -> None:
    frames = [plain((250, 0, 0)), plain((0, 250, 0))]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], loop=0)
    at = content.index(b"NETSCAPE2.0") - 3
    for cut in (content[:at] + content[at + 19 :], content[: at + 14] + b"\1\1\0" + content[at + 19 :]):
        found = decoded(cut)
        assert found.header.frames == 2 and len(found.frames) == 2


def _palette(*colours: tuple[int, int, int]) -> bytes:
    return b"".join(bytes((blue, green, red, 0)) for red, green, blue in colours)


RED, GREEN, BLUE, GREY = (255, 0, 0), (0, 255, 0), (0, 0, 255), (128, 128, 128)
FOUR = _palette(RED, GREEN, BLUE, GREY)


def test_a_bmp_of_two_bits_is_read() -> None:
    found = pixels(bmp((4, 1), 2, b"\x1b\0\0\0", palette=FOUR, colours=4))
    assert found[0].tolist() == [list(colour) for colour in (RED, GREEN, BLUE, GREY)]


@pytest.mark.parametrize(
    ("compression", "bits", "code", "palette"),
    [
        (1, 8, b"\2\1\0\3\2\3\0\0\0\0\0\1", FOUR + bytes(1008)),
        (2, 4, b"\2\x11\0\3\x23\0\0\0\0\1", FOUR + bytes(48)),
        (4, 24, b"\2\0\xff\0\0\3\xff\0\0\x80\x80\x80\0\0\0\0\0\0\0\1", b""),
    ],
)
def test_run_lengths_are_read_and_what_they_skip_is_black(
    compression: int, bits: int, code: bytes, palette: bytes
) -> None:
    header = 64 if compression == 4 else 40
    content = bmp((6, 2), bits, code, compression=compression, palette=palette, header_bytes=header, colours=0)
    found = pixels(content)
    assert found.shape == (2, 6, 3)
    assert found[1, :4].tolist() == [list(colour) for colour in (GREEN, GREEN, BLUE, GREY)]
    assert not found[0].any() and not found[1, 5].any()


def test_run_lengths_that_end_early_are_truncated() -> None:
    found = decoded(bmp((6, 4), 8, b"\6\1\0\0\6", compression=1, palette=FOUR + bytes(1008)))
    assert found.truncated and found.frames[0].pixels[3].tolist() == [list(GREEN)] * 6


@pytest.mark.parametrize(
    ("bits", "masks", "value", "expected"),
    [
        (16, (0xF00, 0xF0, 0xF, 0), 0xF80, [255, 136, 0]),
        (16, (0x7C00, 0x3E0, 0x1F, 0), 0x7C1F, [255, 0, 255]),
        (32, (0x3FF00000, 0xFFC00, 0x3FF, 0), 0x3FF00200, [255, 0, 128]),
    ],
)
def test_unusual_bit_fields_are_read(
    bits: int, masks: tuple[int, int, int, int], value: int, expected: list[int]
) -> None:
    body = struct.pack("<H2x" if bits == 16 else "<I", value)
    found = pixels(bmp((1, 1), bits, body, compression=3, masks=struct.pack("<3I", *masks[:3])))
    assert found[0, 0, :3].tolist() == pytest.approx(expected, abs=1)


def test_alpha_in_bit_fields_is_read_unless_all_of_it_is_zero() -> None:
    masks = struct.pack("<4I", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    body = struct.pack("<II", 0x80FF0000, 0xFF00FF00)
    found = pixels(bmp((2, 1), 32, body, compression=3, masks=masks, header_bytes=56))
    assert found[0].tolist() == [[255, 0, 0, 128], [0, 255, 0, 255]]
    without = pixels(bmp((2, 1), 32, struct.pack("<II", 0xFF0000, 0xFF00), compression=3, masks=masks, header_bytes=56))
    assert without[0].tolist() == [[255, 0, 0], [0, 255, 0]]


def test_a_header_of_52_bytes_has_no_mask_of_alpha() -> None:
    masks = struct.pack("<3I", 0xFF0000, 0xFF00, 0xFF)
    # The bytes behind the header would pass for a mask.
    body = struct.pack("<II", 0xFF0000, 0xFF00)
    found = pixels(bmp((2, 1), 32, body, compression=3, masks=masks, header_bytes=52))
    assert found[0].tolist() == [[255, 0, 0], [0, 255, 0]]


@pytest.mark.parametrize("header_bytes", [12, 16, 40, 64, 108, 124])
def test_every_header_of_bmp_is_read(header_bytes: int) -> None:
    body = b"\0\1\2\3" + b"\3\2\1\0"
    palette = b"".join(bytes(colour[::-1]) for colour in (RED, GREEN, BLUE, GREY)) if header_bytes == 12 else FOUR
    content = bmp(
        (4, 2), 8, body, palette=palette + bytes(768 if header_bytes == 12 else 1008), header_bytes=header_bytes
    )
    if header_bytes == 16:
        at = 14 + 40
        content = content[:14] + struct.pack("<IiiHH", 16, 4, 2, 1, 8) + content[at:]
        content = content[:10] + struct.pack("<I", len(content) - 8) + content[14:]
    assert pixels(content)[1].tolist() == [list(colour) for colour in (RED, GREEN, BLUE, GREY)]


def test_a_palette_shorter_than_its_header_says_is_read() -> None:
    palette = b"".join(bytes(colour[::-1]) for colour in (RED, GREEN, BLUE, GREY))
    assert pixels(bmp((4, 1), 8, b"\0\1\2\3", palette=palette, header_bytes=12))[0, 2].tolist() == list(BLUE)


def _icon(kind: int, *entries: tuple[int, int, bytes], bits: tuple[int, ...] = ()) -> bytes:
    at, table, body = 6 + 16 * len(entries), b"", b""
    for (width, height, content), depth in zip(entries, itertools.chain(bits, itertools.repeat(32)), strict=False):
        table += struct.pack("<BBBBHHII", width % 256, height % 256, 0, 0, 1, depth, len(content), at + len(body))
        body += content
    return struct.pack("<HHH", 0, kind, len(entries)) + table + body


@pytest.mark.parametrize("kind", [1, 2])
def test_of_an_icon_the_largest_entry_is_shown(kind: int) -> None:
    small, large = encoded(plain((250, 0, 0), (16, 16)), "PNG"), encoded(plain((0, 0, 250), (48, 48)), "PNG")
    found = decoded(_icon(kind, (16, 16, small), (48, 48, large), (16, 16, small)))
    assert found.header.format == ("ico" if kind == 1 else "cur") and (found.header.width, found.header.height) == (
        48,
        48,
    )
    assert found.frames[0].pixels[9, 9].tolist() == [0, 0, 250]


def _bitmap(bits: int, rows: bytes, mask: bytes = bytes(8), palette: bytes = b"") -> bytes:
    """Return the bitmap of an entry of 2 x 2 pixels; its rows and those of the mask come from the bottom up."""
    return struct.pack("<IiiHHIIiiII", 40, 2, 4, 1, bits, 0, 0, 0, 0, 0, 0) + palette + rows + mask


_DEEP = _bitmap(24, (bytes((0, 0, 255)) * 2 + bytes(2)) * 2)
_SHALLOW = _bitmap(1, b"\0\0\0\0" * 2, palette=_palette(BLUE, GREEN))


@pytest.mark.parametrize(
    ("kind", "bits", "entries", "expected"),
    [
        (1, (1, 24), (_SHALLOW, _DEEP), RED),
        (1, (24, 1), (_DEEP, _SHALLOW), RED),
        (1, (24, 24), (_SHALLOW, _DEEP), BLUE),
        # No bits are as many as 256 colours need.
        (1, (4, 0), (_SHALLOW, _DEEP), RED),
        # The hot spot of a cursor stands where icons have their bits.
        (2, (1, 24), (_SHALLOW, _DEEP), BLUE),
    ],
)
def test_of_entries_of_one_size_the_one_of_most_bits_is_shown(
    kind: int, bits: tuple[int, ...], entries: tuple[bytes, ...], expected: tuple[int, ...]
) -> None:
    found = pixels(_icon(kind, *((2, 2, entry) for entry in entries), bits=bits))
    assert (found == expected).all() and found.shape == (2, 2, 3)


def test_alpha_of_zero_throughout_leaves_an_icon_to_its_mask() -> None:
    rows = bytes((0, 0, 255, 0)) * 2 + bytes((0, 255, 0, 0)) * 2
    found = pixels(_icon(1, (2, 2, _bitmap(32, rows, b"\x40\0\0\0" + bytes(4)))))
    assert found.tolist() == [[[*GREEN, 255]] * 2, [[*RED, 255], [0, 0, 0, 0]]]
    # With alpha the mask does not count.
    found = pixels(_icon(1, (2, 2, _bitmap(32, rows[:-1] + b"\xff", b"\xff" * 8))))
    assert found[0, 1].tolist() == [*GREEN, 255] and not found[1, :, 3].any()


def test_the_largest_entry_counts_by_the_directory_for_header_and_pixels_alike() -> None:
    large = encoded(plain((250, 0, 0), (48, 40)), "PNG")
    found = decoded(_icon(1, (8, 8, large), (16, 16, encoded(plain((0, 0, 250), (16, 16)), "PNG"))))
    assert (found.header.width, found.header.height) == (16, 16) and found.frames[0].pixels.shape == (16, 16, 3)


def test_a_bitmap_of_an_icon_is_shown_whatever_length_its_directory_says() -> None:
    content = bytearray(_icon(1, (2, 2, _DEEP)))
    for size in (10, len(_DEEP) + 1, 0xFFFFFFFF):
        content[14:18] = struct.pack("<I", size)
        found = decoded(bytes(content))
        assert (found.frames[0].pixels == RED).all() and not found.truncated


def test_an_icon_that_is_cut_off_is_shown() -> None:
    content = _icon(1, (64, 48, encoded(noise(3, (64, 48)), "PNG")))
    found = decoded(content[: len(content) * 3 // 4])
    assert found.truncated
    assert (found.frames[0].pixels[:20, :, :3] == np.asarray(noise(3, (64, 48)))[:20]).all()


def test_an_icon_of_bitmaps_is_shown() -> None:
    buffer = io.BytesIO()
    smooth((32, 32)).save(buffer, "ICO", sizes=[(32, 32)], bitmap_format="bmp")
    assert np.abs(pixels(buffer.getvalue())[..., :3].astype(int) - np.asarray(smooth((32, 32))).astype(int)).max() <= 1


def test_jpeg_2000_and_jpeg_xl_are_decoded() -> None:
    import imagecodecs

    jxl = bytes(imagecodecs.jpegxl_encode(np.asarray(smooth()), lossless=True))
    assert (pixels(jxl) == np.asarray(smooth())).all()
    assert decoded(jxl).header.format == "jxl"
    found = decoded(encoded(smooth(), "JPEG2000"))
    assert found.header.format == "jp2" and (found.frames[0].pixels == np.asarray(smooth())).all()
    cut = DECODER.decode(jxl[:-100])
    assert isinstance(cut, Rejection) and cut.reason is RejectReason.TRUNCATED


def test_frames_of_a_jpeg_xl_animation_are_decoded() -> None:
    import imagecodecs

    frames = np.stack([np.asarray(plain(colour)) for colour in (RED, GREEN, BLUE)])
    found = decoded(bytes(imagecodecs.jpegxl_encode(frames, lossless=True)))
    assert found.header.frames == 3
    assert [frame.pixels[0, 0].tolist() for frame in found.frames] == [list(colour) for colour in (RED, GREEN, BLUE)]
