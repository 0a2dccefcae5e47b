"""AVIF: colour, depth, turning, grids, sizes that lie, animations, and cut files."""

from __future__ import annotations

import functools
import struct
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
from PIL import Image

from tests.support.corpus import exif, profiles
from tests.support.corpus.boxes import Item, avif, box, find, full, ispe, nclx, profile
from tests.support.corpus.case import Case, Closeness
from tests.support.corpus.picture import HEIGHT, WIDTH, alpha, array, base, cut_at, saved, second

_case = functools.partial(Case, "avif", media_type="image/avif")
_PIXI = full(b"pixi", bytes((3, 8, 8, 8)))
_BT709 = nclx(1, 13, 6)
_TO_ALPHA = b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha\0"


@functools.cache
def _coded(which: str = "base", **options: Any) -> tuple[bytes, bytes]:
    """Return av1C, as a whole box, and the coded picture."""
    image = {"base": base, "second": second, "faded": _faded}[which]()
    return _parts(saved(image, "AVIF", quality=92, speed=8, **options))


def _parts(content: bytes) -> tuple[bytes, bytes]:
    return box(b"av1C", find(content, b"meta", b"iprp", b"ipco", b"av1C")), find(content, b"mdat")


def _faded() -> Image.Image:
    ground = Image.new("RGB", (WIDTH, HEIGHT))
    ground.paste(alpha(), mask=alpha().getchannel("A"))
    return ground


def _quarter(left: int, top: int) -> tuple[bytes, bytes]:
    return _parts(saved(base().crop((left, top, left + 80, top + 64)), "AVIF", quality=92, speed=8))


def _still(
    *properties: bytes, size: tuple[int, int] = (WIDTH, HEIGHT), colour: bytes = _BT709, extra: bytes = b""
) -> bytes:
    config, coded = _coded()
    return avif(Item(b"av01", coded, (ispe(*size), _PIXI, config, colour, *properties)), extra=extra)


def _ten_bits(bits: int, colour: bytes = b"", transparent: bool = False) -> bytes:
    """Return 10 or 12 bits, as OpenCV writes them; `colour` replaces the code points."""
    pixels = array(alpha() if transparent else base()).astype(np.uint16)
    scaled = pixels * ((1 << bits) - 1) // 255
    order = (2, 1, 0, 3) if transparent else (2, 1, 0)
    flags = [cv2.IMWRITE_AVIF_QUALITY, 92, cv2.IMWRITE_AVIF_DEPTH, bits, cv2.IMWRITE_AVIF_SPEED, 8]
    done, written = cv2.imencode(".avif", np.ascontiguousarray(scaled[..., order]), flags)
    assert done
    content = bytes(written)
    if not colour:
        return content
    config, coded = _parts(content)
    pixi = full(b"pixi", bytes((3, bits, bits, bits)))
    return avif(Item(b"av01", coded, (ispe(WIDTH, HEIGHT), pixi, config, colour)))


def _grid() -> bytes:
    """Return four tiles; the primary item says how they lie."""
    quarters = [_quarter(left, top) for top in (0, 64) for left in (0, 80)]
    tiles = [Item(b"av01", coded, (ispe(80, 64), _PIXI, config, _BT709), hidden=True) for config, coded in quarters]
    plan = struct.pack(">BBBBHH", 0, 0, 1, 1, WIDTH, HEIGHT)
    grid = Item(b"grid", plan, (ispe(WIDTH, HEIGHT), _PIXI, _BT709), refers=((b"dimg", (2, 3, 4, 5)),))
    return avif(grid, *tiles)


def _alpha_item(premultiplied: bool = False) -> bytes:
    """Return the picture with its transparency in an item of its own."""
    # Premultiplied colours are never larger than their alpha.
    config, coded = _coded("faded" if premultiplied else "base")
    mask_config, mask = _parts(
        saved(Image.fromarray(array(alpha())[..., 3]), "AVIF", quality=95, speed=8, range="full")
    )
    auxiliary = full(b"auxC", _TO_ALPHA)
    references = ((b"prem", (2,)),) if premultiplied else ()
    return avif(
        Item(b"av01", coded, (ispe(WIDTH, HEIGHT), _PIXI, config, _BT709), refers=references),
        Item(
            b"av01",
            mask,
            (ispe(WIDTH, HEIGHT), full(b"pixi", b"\1\x08"), mask_config, auxiliary),
            True,
            ((b"auxl", (1,)),),
        ),
    )


def _exif(value: int) -> bytes:
    config, coded = _coded()
    body = bytes(4) + exif.orientation(value)
    return avif(
        Item(b"av01", coded, (ispe(WIDTH, HEIGHT), _PIXI, config, _BT709)),
        Item(b"Exif", body, refers=((b"cdsc", (1,)),)),
    )


def _animated(transparent: bool = False, **options: Any) -> bytes:
    frames = [alpha(), second().convert("RGBA")] if transparent else [second(), base()]
    wanted = {"duration": [20, 1000], "quality": 92, "speed": 8, **options}
    return saved(frames[0], "AVIF", save_all=True, append_images=frames[1:], **wanted)


def _thumbnail_first() -> bytes:
    """Return two pictures; the primary item is the second."""
    config, coded = _coded("second")
    other_config, other = _coded()
    return avif(
        Item(b"av01", coded, (ispe(WIDTH, HEIGHT), _PIXI, config, _BT709)),
        Item(b"av01", other, (ispe(WIDTH, HEIGHT), _PIXI, other_config, _BT709)),
        primary=2,
    )


def _sampled(name: str) -> bytes:
    return saved(base(), "AVIF", quality=92, speed=8, subsampling=name)


def _clap(width: int, height: int) -> bytes:
    return box(b"clap", struct.pack(">IIIIiIiI", width, 1, height, 1, 0, 1, 0, 1))


def cases() -> Iterator[Case]:
    """Yield the cases of AVIF."""
    lossy, colour, ranges = Closeness.LOSSY, Closeness.COLOUR, Closeness.RANGE
    yield _case("plain", closeness=lossy, build=_still)
    for name in ("4:4:4", "4:2:2", "4:2:0", "4:0:0"):
        yield _case(name, closeness=lossy, build=functools.partial(_sampled, name))
    yield _case(
        "limited range", closeness=lossy, build=lambda: saved(base(), "AVIF", quality=92, speed=8, range="limited")
    )
    yield _case("10 bit", closeness=lossy, build=lambda: _ten_bits(10))
    yield _case("12 bit", closeness=lossy, build=lambda: _ten_bits(12))
    yield _case("10 bit with alpha", closeness=ranges, build=lambda: _ten_bits(10, transparent=True))
    yield _case("alpha", closeness=ranges, build=lambda: saved(alpha(), "AVIF", quality=92, speed=8))
    yield _case("alpha in an item of its own", closeness=ranges, build=_alpha_item)
    yield _case("alpha, premultiplied", closeness=ranges, build=lambda: _alpha_item(premultiplied=True))
    for turn in (1, 2, 3):
        yield _case(f"irot {turn}", closeness=lossy, build=functools.partial(_still, box(b"irot", bytes((turn,)))))
    for axis in (0, 1):
        yield _case(f"imir {axis}", closeness=lossy, build=functools.partial(_still, box(b"imir", bytes((axis,)))))
    yield _case("irot and imir", closeness=lossy, build=lambda: _still(box(b"irot", b"\1"), box(b"imir", b"\0")))
    yield _case("clap", closeness=lossy, build=lambda: _still(_clap(80, 64)))
    yield _case(
        "EXIF orientation 6",
        closeness=lossy,
        build=lambda: _exif(6),
    )
    yield _case("grid of four", closeness=lossy, build=_grid)
    yield _case("the second picture is primary", closeness=lossy, build=_thumbnail_first)
    yield _case("ispe says smaller", closeness=lossy, build=lambda: _still(size=(80, 64)))
    yield _case("ispe says larger", closeness=lossy, build=lambda: _still(size=(320, 256)))
    yield _case("nclx Display P3", closeness=colour, build=lambda: _still(colour=nclx(12, 13, 6)))
    yield _case("nclx BT.2020", closeness=colour, build=lambda: _still(colour=nclx(9, 13, 6)))
    yield _case("nclx BT.709 curve", closeness=colour, build=lambda: _still(colour=nclx(1, 1, 6)))
    yield _case("nclx linear", closeness=colour, build=lambda: _still(colour=nclx(1, 8, 6)))
    yield _case("PQ, 8 bit", closeness=colour, build=lambda: _still(colour=nclx(9, 16, 9)))
    yield _case("PQ, 10 bit", closeness=colour, build=lambda: _ten_bits(10, nclx(9, 16, 9)))
    yield _case("HLG, 10 bit", closeness=colour, build=lambda: _ten_bits(10, nclx(9, 18, 9)))
    yield _case(
        "ICC swaps red and green", closeness=colour, build=lambda: _still(profile(profiles.matrix(profiles.SWAPPED)))
    )
    yield _case("ICC junk", closeness=lossy, build=lambda: _still(profile(b"junk" * 40)))
    yield _case("two frames", closeness=ranges, build=_animated)
    yield _case("two frames, limited range", closeness=lossy, build=lambda: _animated(range="limited"))
    yield _case("two frames with alpha", closeness=ranges, build=lambda: _animated(transparent=True))
    yield _case("two frames, cut in the second", closeness=lossy, build=lambda: _animated()[:-200], cut=True)
    yield _case("bytes behind the picture", closeness=lossy, build=lambda: _still(extra=b"trailing" * 100))
    for share in (0.98, 0.6):
        yield _case(f"cut at {share:.0%}", closeness=lossy, build=cut_at(share, _still), cut=True)
    yield _case("coded picture damaged", closeness=lossy, build=_damaged)
    yield _case("brand mif1 alone", closeness=lossy, build=lambda: _branded(b"mif1miaf"))
    yield _case("brand mif1 first", closeness=lossy, build=lambda: _branded(b"mif1avifmiaf"))
    yield _case("brand of sequences", closeness=lossy, build=lambda: _branded(b"avismif1miaf"))
    for kind in (b"ispe", b"pixi", b"colr", b"av1C"):
        yield _case(f"{kind.decode()} missing", closeness=lossy, build=functools.partial(_without, kind))
    swapped = profile(profiles.matrix(profiles.SWAPPED))
    yield _case("ICC alone, no nclx", closeness=colour, build=lambda: _still(colour=swapped))
    yield _case("pasp", closeness=lossy, build=lambda: _still(box(b"pasp", struct.pack(">II", 2, 1))))
    yield _case("unknown property", closeness=lossy, build=lambda: _still(box(b"abcd", b"nobody knows this")))


def _damaged() -> bytes:
    content = _still()
    at = content.find(b"mdat") + 4
    middle = at + (len(content) - at) // 2
    return content[:middle] + bytes(40) + content[middle + 40 :]


def _branded(brands: bytes) -> bytes:
    config, coded = _coded()
    return avif(Item(b"av01", coded, (ispe(WIDTH, HEIGHT), _PIXI, config, _BT709)), brands=brands)


def _without(kind: bytes) -> bytes:
    """Return the picture without one of its properties."""
    config, coded = _coded()
    properties = (ispe(WIDTH, HEIGHT), _PIXI, config, _BT709)
    return avif(Item(b"av01", coded, tuple(one for one in properties if one[4:8] != kind)))
