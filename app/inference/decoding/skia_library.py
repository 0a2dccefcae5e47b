"""Loader of Skia on machines without a graphics stack: provides stubs for libGL and libEGL.

skia-python links both, because Skia can also draw on graphics cards. Decoding calls none of their functions, and slim
servers and containers do not have them. If one is missing, a shared object with its name and symbols is made in memory
and loaded first; the dynamic linker then resolves it by its name (SONAME). Each of its functions returns 0.
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import mmap
import os
import platform
import re
import struct
from pathlib import Path
from typing import Any, Final

_LIBRARIES: Final = ("libEGL.so.1", "libGL.so.1")
_SYMBOL: Final = re.compile(rb"\0((?:gl|egl)[A-Z]\w{2,60})(?=\0)")
# By machine: the ELF machine number (elf.h), and the code of a function that returns 0.
_CODE: Final = {
    "x86_64": (62, bytes.fromhex("31c0c3")),  # xor eax, eax; ret
    "aarch64": (183, bytes.fromhex("00008052c0035fd6")),  # mov w0, 0; ret
}
# Largest page size of these machines: segments aligned to it work with every kernel.
_PAGE: Final = 0x10000


@functools.cache
def load_skia() -> Any:
    """Return the module `skia`. Raises ImportError if it cannot be loaded."""
    for name in _LIBRARIES:
        if not _is_there(name):
            _stand_in(name)
    import skia

    return skia


def _is_there(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def _stand_in(name: str) -> None:
    spec = importlib.util.find_spec("skia")
    known = _CODE.get(platform.machine())
    if spec is None or spec.origin is None or known is None:
        return
    with Path(spec.origin).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        symbols = sorted(set(_SYMBOL.findall(content)))
    load_shared_object(shared_object(name.encode(), symbols, *known))


def load_shared_object(content: bytes) -> ctypes.CDLL:
    """Load a shared object from memory. Its symbols are global for libraries that are loaded later. Raises OSError."""
    # Never closed: the linker identifies libraries by path, so a later file with the same number would be taken for it.
    descriptor = os.memfd_create("shared object", os.MFD_CLOEXEC)
    os.write(descriptor, content)
    return ctypes.CDLL(f"/proc/self/fd/{descriptor}", mode=ctypes.RTLD_GLOBAL)


def shared_object(name: bytes, symbols: list[bytes], machine: int, code: bytes) -> bytes:
    """Return a 64-bit little-endian ELF shared object called `name` whose `symbols` are all the function `code`.

    Layout (System V ABI, chapters 4 and 5): headers, hash table, symbols, strings and code in one segment with read and
    execute rights; the dynamic section, to which the linker writes, in another.
    """
    strings, names = b"\0", []
    for symbol in (name, *symbols):
        names.append(len(strings))
        strings += symbol + b"\0"
    count = len(symbols) + 1
    # A single hash chain for all symbols suffices: it is searched about a hundred times, once for each symbol of Skia.
    table = struct.pack("<4I", 1, count, 1 if symbols else 0, 0)
    table += b"".join(struct.pack("<I", number + 1 if number + 1 < count else 0) for number in range(1, count))
    at_table = 64 + 4 * 56
    at_symbols = _aligned(at_table + len(table), 8)
    at_strings = at_symbols + 24 * count
    at_code = _aligned(at_strings + len(strings), 16)
    end = at_code + len(code)
    at_dynamic = _aligned(end, _PAGE)
    dynamic = b"".join(
        struct.pack("<2Q", *entry)
        for entry in (
            (14, names[0]),  # DT_SONAME
            (4, at_table),  # DT_HASH
            (5, at_strings),  # DT_STRTAB
            (6, at_symbols),  # DT_SYMTAB
            (10, len(strings)),  # DT_STRSZ
            (11, 24),  # DT_SYMENT
            (0, 0),
        )
    )
    header = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3, machine, 1, 0, 64, 0, 0, 64, 56, 4, 64, 0, 0)
    segments = (
        (1, 5, 0, end, _PAGE),  # PT_LOAD, read and execute
        (1, 6, at_dynamic, len(dynamic), _PAGE),  # PT_LOAD, read and write
        (2, 6, at_dynamic, len(dynamic), 8),  # PT_DYNAMIC
        (0x6474E551, 6, 0, 0, 16),  # PT_GNU_STACK: the stack is not executable
    )
    body = header + b"".join(
        struct.pack("<2I6Q", kind, flags, at, at, at, size, size, align) for kind, flags, at, size, align in segments
    )
    body += table
    body = body.ljust(at_symbols, b"\0") + bytes(24)
    # Global functions in a defined section; any index works, because there are no section headers.
    body += b"".join(struct.pack("<IBBHQQ", at, 0x12, 0, 1, at_code, len(code)) for at in names[1:])
    body = (body + strings).ljust(at_code, b"\0") + code
    return body.ljust(at_dynamic, b"\0") + dynamic


def _aligned(value: int, to: int) -> int:
    return -(-value // to) * to
