"""The demo's own processes: verbs of this command line as children that end with it, one log file each."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from app.errors import StartupRefused
from app.settings import ROOT
from app.stack.processes import ServerCommand, ServerProcess, end_stale

_LOG_TAIL_LINES: Final = 4


# A verb that the demo asks: the audit, the lake's count.
_VERB_SECONDS: Final = 180.0


class Children:
    """Verbs run side by side; use as `async with`. On leaving all are ended: TERM, and KILL for what does not go.

    They end with this process whatever happens to it; what a killed earlier run left is ended on entering.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = {
            # `-m app` finds this project and nobody else's, from whatever folder it is started.
            "PYTHONPATH": str(ROOT),
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            **{name: value for name, value in environment.items() if name.startswith(("SIGHTLINE_", "AWS_"))},
        }
        self._processes: dict[str, ServerProcess] = {}

    async def __aenter__(self) -> Self:
        await end_stale(self._folder / "run")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    def start(self, name: str, *arguments: str, environment: Mapping[str, str] | None = None) -> ServerProcess:
        """Start `./sightline ARGUMENTS…` as `name`; returns at once. Its log begins anew."""
        log_file = self.log_file(name)
        log_file.unlink(missing_ok=True)
        process = ServerProcess(
            ServerCommand(
                name=name,
                command=(sys.executable, "-m", "app", *arguments),
                log_file=log_file,
                directory=ROOT,
                environment={**self._environment, **(environment or {})},
            ),
            self._folder / "run",
        )
        process.start()
        self._processes[name] = process
        return process

    def log_file(self, name: str) -> Path:
        """Return where the output of `name` goes."""
        return self._folder / "log" / f"{name}.log"

    def check(self) -> None:
        """Raise StartupRefused, naming the log file, when one of the processes has ended."""
        for name, process in self._processes.items():
            if process.exit_code is not None:
                # A refusal is one sentence of ours at the end; what libraries wrote before it helps nobody.
                tail = process.last_lines(_LOG_TAIL_LINES)
                sentence = tail.rpartition("sightline: ")[2]
                raise StartupRefused(
                    f"{name} ended (exit code {process.exit_code}): {sentence}; see {shown(process.how.log_file)}"
                )

    async def end(self) -> None:
        """End all of them, side by side."""
        processes = list(self._processes.values())
        self._processes.clear()
        await asyncio.gather(*(process.stop() for process in processes))


def shown(path: Path) -> str:
    """Return a path as a person would type it from here."""
    here = Path(os.path.relpath(path))
    return str(path) if here.parts[:2] == ("..", "..") else str(here)


async def run_verb(environment: Mapping[str, str], *arguments: str) -> tuple[int, str]:
    """Run a verb to its end; return its exit code and what it printed, both streams."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", *arguments),
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), _VERB_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()
        return 1, f"{arguments[0]} was not done after {_VERB_SECONDS:.0f} s"
    return process.returncode or 0, output.decode(errors="replace")
