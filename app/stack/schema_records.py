"""Generation of schemas/records.py. Imports nothing that needs the records, which may be missing or broken."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from app.settings import ROOT
from schemas.generation import records_source

RECORDS_FILE: Final = "records.py"
_FOLDER: Final = ROOT / "schemas"


def stale_records(folder: Path = _FOLDER) -> str:
    """Return the text that records.py must have, or an empty text if the file has it."""
    files = sorted(folder.glob("*/*.avsc"), key=lambda path: (path.parent.name, int(path.stem)))
    text = records_source((path.parent.name, json.loads(path.read_text(encoding="utf-8"))) for path in files)
    path = folder / RECORDS_FILE
    return "" if path.exists() and path.read_text(encoding="utf-8") == text else text


def write_records(folder: Path = _FOLDER) -> bool:
    """Write records.py. Return True if it changed."""
    text = stale_records(folder)
    if text:
        (folder / RECORDS_FILE).write_text(text, encoding="utf-8")
    return bool(text)
