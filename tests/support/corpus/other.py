"""Formats that few browsers show, or none: TIFF, HEIC, JPEG 2000, JPEG XL, SVG, and others."""

from __future__ import annotations

import functools
from collections.abc import Iterator

from tests.support.corpus.case import Case, Closeness
from tests.support.corpus.picture import SAMPLES, alpha, array, base, cut_at, saved

_SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="160" height="128"><rect width="160" height="128" fill="teal"/>
<text x="20" y="64" font-size="20">SIGHTLINE</text></svg>"""


def _heic() -> bytes:
    import pillow_heif

    pillow_heif.register_heif_opener()
    return saved(base(), "HEIF", quality=90)


def _portable(kind: str) -> bytes:
    pixels: bytes = array(base()).tobytes()
    return f"{kind}\n160 128\n255\n".encode("ascii") + pixels


def _sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def cases() -> Iterator[Case]:
    """Yield the cases of all other formats."""
    lossy, exact = Closeness.LOSSY, Closeness.EXACT
    jxl = functools.partial(Case, "jxl", media_type="image/jxl")
    yield jxl("lossless", closeness=exact, build=lambda: _sample("lossless.jxl"))
    yield jxl("lossy", closeness=lossy, build=lambda: _sample("lossy.jxl"))
    yield jxl("alpha", closeness=exact, build=lambda: _sample("alpha.jxl"))
    yield jxl("16 bit", closeness=exact, build=lambda: _sample("sixteen.jxl"))
    yield jxl("container", closeness=lossy, build=lambda: _sample("container.jxl"))
    yield jxl("two frames", closeness=lossy, build=lambda: _sample("anim.jxl"))
    for share in (0.98, 0.5):
        yield jxl(
            f"cut at {share:.0%}",
            closeness=lossy,
            build=cut_at(share, lambda: _sample("lossy.jxl")),
            cut=True,
        )
    tiff = functools.partial(Case, "tiff", media_type="image/tiff", closeness=exact)
    yield tiff("plain", build=lambda: saved(base(), "TIFF"))
    yield tiff("LZW", build=lambda: saved(base(), "TIFF", compression="tiff_lzw"))
    yield tiff("alpha", build=lambda: saved(alpha(), "TIFF"))
    yield Case("heic", "plain", "image/heic", lossy, _heic)
    yield Case("jp2", "plain", "image/jp2", lossy, lambda: saved(base(), "JPEG2000"))
    yield Case("svg", "plain", "image/svg+xml", exact, _SVG.encode)
    yield Case("svg", "sent as a PNG", "image/png", exact, _SVG.encode)
    yield Case("ppm", "plain", "image/x-portable-pixmap", exact, lambda: _portable("P6"))
    yield Case("pcx", "plain", "image/x-pcx", exact, lambda: saved(base(), "PCX"))
    yield Case("tga", "plain", "image/x-tga", exact, lambda: saved(base(), "TGA"))
    yield Case("xbm", "plain", "image/x-xbitmap", exact, lambda: saved(base().convert("1"), "XBM"))
    yield Case("psd", "header alone", "image/vnd.adobe.photoshop", exact, lambda: b"8BPS\0\1" + bytes(100))
    yield Case("pdf", "plain", "application/pdf", exact, lambda: saved(base(), "PDF"))
