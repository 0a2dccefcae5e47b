"""Verbs of this command line as processes of their own: servers that go on running, or asked and waited for."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from app.exit_codes import ExitCode
from app.settings import ROOT
from app.stack.processes import ServerCommand

# Of a verb that answers: the audit, the lake's count.
_ANSWER_SECONDS: Final = 180.0
# `-m app` finds this project and nobody else's, from whatever folder it is started.
_PYTHON: Final[Mapping[str, str]] = {
    "PYTHONPATH": str(ROOT),
    "PYTHONSAFEPATH": "1",
    "PYTHONUNBUFFERED": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
}


def verb_server(name: str, words: tuple[str, ...], log_file: Path, environment: Mapping[str, str]) -> ServerCommand:
    """Return how to start `./sightline WORDS…` as `name`; of `environment` it gets our variables and those of AWS."""
    ours = {key: value for key, value in environment.items() if key.startswith(("SIGHTLINE_", "AWS_"))}
    return ServerCommand(name, (sys.executable, "-m", "app", *words), log_file, ROOT, {**_PYTHON, **ours})


async def run_verb(environment: Mapping[str, str], *words: str) -> tuple[int, str]:
    """Run a verb to its end; return its exit code and what it printed, both streams."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", *words),
        env={**environment, **_PYTHON},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        return ExitCode.FINDING, f"{words[0]} was not done after {_ANSWER_SECONDS:.0f} s"
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, output.decode(errors="replace")


def told_object(text: str) -> dict[str, Any]:
    """Return the first JSON object among the lines that a verb printed; empty where there is none."""
    document: dict[str, Any] = next((json.loads(line) for line in text.splitlines() if line.startswith("{")), {})
    return document
