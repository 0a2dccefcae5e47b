"""Skia loads where there is no graphics stack."""

from __future__ import annotations

import ctypes
import platform
import subprocess
import sys

import pytest

from app.inference.decoding import skia_library
from app.inference.decoding.skia_library import load_shared_object, shared_object
from app.settings import ROOT

MACHINE, CODE = skia_library._CODE.get(platform.machine(), (0, b""))
pytestmark = pytest.mark.skipif(not MACHINE, reason="no stand-in for this machine")


@pytest.mark.parametrize("count", [1, 2, 700])
def test_a_made_library_has_its_symbols_and_no_others(count: int) -> None:
    symbols = [f"glMadeUp{number}".encode() for number in range(count)]
    library = load_shared_object(shared_object(b"libmadeup.so.9", symbols, MACHINE, CODE))
    for symbol in (symbols[0], symbols[-1]):
        assert library[symbol.decode()]() == 0
    with pytest.raises(AttributeError):
        _ = library.glElsewhere


def test_a_library_that_needs_it_finds_it_by_its_name() -> None:
    """The dynamic linker takes what is loaded under that name, so the file need not exist anywhere."""
    load_shared_object(shared_object(b"libbyname.so.7", [b"glByName"], MACHINE, CODE))
    assert ctypes.CDLL("libbyname.so.7").glByName() == 0


def test_skia_decodes_with_the_stand_ins(tmp_path: object) -> None:
    """In a process where both are loaded first, the system's own are never opened."""
    script = (
        "import io\n"
        "from PIL import Image\n"
        "from app.inference.decoding import skia_library as made\n"
        "for name in made._LIBRARIES:\n"
        "    made._stand_in(name)\n"
        "skia = made.load_skia()\n"
        "assert not [line for line in open('/proc/self/maps') if '/libGL.so' in line or '/libEGL.so' in line]\n"
        "buffer = io.BytesIO()\n"
        "Image.new('RGB', (5, 4), (250, 0, 0)).save(buffer, 'GIF')\n"
        "print(skia.Codec.MakeFromData(buffer.getvalue()).dimensions().width())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == "5", done.stderr
