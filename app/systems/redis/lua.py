"""Lua scripts that run in the Redis server: files in the folder `scripts` beside the adapter that calls them."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def lua(adapter: str, *names: str) -> str:
    """Return the scripts of these names, joined to one text. `adapter` is the path of the calling module."""
    folder = Path(adapter).parent / "scripts"
    return "\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names)
