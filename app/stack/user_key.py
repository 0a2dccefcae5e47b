"""API key of the stack's user, created once and stored with the stack's data; a fresh stack creates another."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from app.domain.api_keys import SCOPES
from app.stack.jars import Report
from app.stack.verbs import run_verb, told_object

_NAME: Final = "demo"


def key_file(var_dir: Path) -> Path:
    """Return the path of the key file, which only its user can read. It does not exist without a key."""
    return var_dir / "stack" / "api-key"


def read_key(var_dir: Path) -> str | None:
    """Return the key, or None without one."""
    path = key_file(var_dir)
    return path.read_text().strip() if path.exists() else None


async def ensure_key(var_dir: Path, environment: Mapping[str, str], report: Report) -> None:
    """Create the key unless it exists. A failure is only reported: without a key nobody can use the API."""
    path = key_file(var_dir)
    if path.exists():
        return
    key, output = await _create(environment)
    if key is None:
        report(f"no API key was made: {output}")
        return
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(key + "\n")
    partial.replace(path)
    report(f"an API key with every scope lies in {path}")


async def _create(environment: Mapping[str, str]) -> tuple[str | None, str]:
    """Return the new key, or None and the output of the verb."""
    scopes = (word for scope in SCOPES for word in ("--scope", scope))
    code, text = await run_verb(environment, "api", "keys", "create", "--name", _NAME, *scopes, "--json")
    created = told_object(text)
    return (created["key"], "") if code == 0 and "key" in created else (None, " ".join(text.split())[-300:])
