"""ICC profiles: matrix profiles of wide gamuts, written by hand, so that no colour library judges itself."""

from __future__ import annotations

import struct
from typing import Final

# Colorants adapted to D50: the columns of the matrix from linear RGB to XYZ.
DISPLAY_P3: Final = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
ADOBE_RGB: Final = ((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457))
SRGB: Final = ((0.43607, 0.22249, 0.01392), (0.38515, 0.71687, 0.09708), (0.14307, 0.06061, 0.71410))
# Red and green change places: whoever ignores the profile is wrong by much more than any tolerance.
SWAPPED: Final = (SRGB[1], SRGB[0], SRGB[2])
_D50: Final = (0.96420, 1.0, 0.82491)

Colorants = tuple[tuple[float, float, float], ...]


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(values: tuple[float, ...]) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(_fixed(value) for value in values)


def _curve(gamma: float) -> bytes:
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"


def _parametric() -> bytes:
    """Return the curve of sRGB."""
    return (
        b"para\0\0\0\0"
        + struct.pack(">HH", 3, 0)
        + b"".join(map(_fixed, (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)))
    )


def _description(name: str) -> bytes:
    text = name.encode("ascii") + b"\0"
    body = b"desc\0\0\0\0" + struct.pack(">I", len(text)) + text + bytes(4 + 4 + 2 + 1 + 67)
    return body + bytes(-len(body) % 4)


def _profile(kind: bytes, tags: list[tuple[bytes, bytes]]) -> bytes:
    at = 128 + 4 + 12 * len(tags)
    table, bodies = struct.pack(">I", len(tags)), b""
    for name, body in tags:
        table += name + struct.pack(">II", at + len(bodies), len(body))
        bodies += body + bytes(-len(body) % 4)
    head = struct.pack(">I4sI4s4s4s", at + len(bodies), b"\0\0\0\0", 0x02400000, b"mntr", kind, b"XYZ ")
    head += struct.pack(">6H", 2024, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    head += b"".join(map(_fixed, _D50)) + bytes(4)
    return head + bytes(128 - len(head)) + table + bodies


def matrix(colorants: Colorants, gamma: float | None = None, name: str = "test") -> bytes:
    """Return an RGB profile; without `gamma` the curve is that of sRGB."""
    curve = _parametric() if gamma is None else _curve(gamma)
    tags = [(b"desc", _description(name)), (b"cprt", b"text\0\0\0\0CC0\0"), (b"wtpt", _xyz(_D50))]
    tags += [(letter + b"XYZ", _xyz(value)) for letter, value in zip((b"r", b"g", b"b"), colorants, strict=True)]
    tags += [(letter + b"TRC", curve) for letter in (b"r", b"g", b"b")]
    return _profile(b"RGB ", tags)


def grey(gamma: float) -> bytes:
    """Return a profile of grey pictures."""
    return _profile(
        b"GRAY",
        [
            (b"desc", _description("grey")),
            (b"cprt", b"text\0\0\0\0CC0\0"),
            (b"wtpt", _xyz(_D50)),
            (b"kTRC", _curve(gamma)),
        ],
    )
