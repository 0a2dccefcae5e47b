"""Verbs of the command line as processes of their own, as an operator types them."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping

from app.settings import ROOT

# Longer than any verb's own wait in the tests.
_LIMIT_SECONDS = 280.0


def clean_environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return this process's environment with these SIGHTLINE_* variables and no others."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
    return {**kept, **variables}


async def run_verb(variables: Mapping[str, str], *arguments: str) -> tuple[int, str, str]:
    """Run `./sightline ARGUMENTS…` to its end; return exit code, standard output and standard error."""
    code, out, err = await _run(variables, arguments, asyncio.subprocess.PIPE)
    return code, out, err


async def run_verb_together(variables: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Run it to its end; return exit code and both streams in the order in which they were written."""
    code, out, _ = await _run(variables, arguments, asyncio.subprocess.STDOUT)
    return code, out


async def _run(variables: Mapping[str, str], arguments: tuple[str, ...], errors: int) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", *arguments),
        cwd=ROOT,
        env=clean_environment(variables),
        stdout=asyncio.subprocess.PIPE,
        stderr=errors,
    )
    try:
        async with asyncio.timeout(_LIMIT_SECONDS):
            out, err = await process.communicate()
    except BaseException:
        if process.returncode is None:
            process.kill()
            await process.wait()
        raise
    return process.returncode or 0, out.decode(errors="replace"), (err or b"").decode(errors="replace")
