"""A measurement's own processes: verbs of this command line as children that end with it, one log file each."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from app.demo.screen import shown
from app.errors import StartupRefused
from app.stack.processes import ServerProcess, end_stale
from app.stack.verbs import verb_server

_LOG_TAIL_LINES: Final = 4


class Children:
    """Verbs run side by side; use as `async with`. On leaving all are ended: TERM, and KILL for what does not go.

    They end with this process whatever happens to it; what a killed earlier run left is ended on entering.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = environment
        self._processes: dict[str, ServerProcess] = {}

    async def __aenter__(self) -> Self:
        await end_stale(self._folder / "run")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.end()

    def start(self, name: str, *arguments: str) -> ServerProcess:
        """Start `./sightline ARGUMENTS…` as `name`; returns at once. Its log begins anew."""
        log_file = self.log_file(name)
        log_file.unlink(missing_ok=True)
        process = ServerProcess(
            verb_server(name, arguments, log_file, self._environment),
            self._folder / "run",
        )
        process.start()
        self._processes[name] = process
        return process

    def log_file(self, name: str) -> Path:
        """Return where the output of `name` goes."""
        return self._folder / "log" / f"{name}.log"

    def pid_of(self, name: str) -> int:
        """Return the pid of `name`. Raises StartupRefused when it has ended."""
        pid = self._processes[name].pid
        if pid is None:
            raise StartupRefused(f"{name} ended; see {shown(self.log_file(name))}")
        return pid

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
