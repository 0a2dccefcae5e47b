"""The stack under the demo: one that runs already, or one that is started here and becomes ready meanwhile."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from agents import PIPELINE
from app.demo.screen import Screen, shown
from app.errors import StartupRefused
from app.settings import ROOT
from app.stack.agents import why_ended
from app.stack.processes import ended
from app.stack.state import StackState, load_state
from app.stack.verbs import run_verb

_POLL_SECONDS: Final = 0.1
# Somebody else is starting it.
_READY_SECONDS: Final = 180.0


class DemoStack:
    """Use `begin`, then `check` again and again, `ready` before what needs the API, and `end` where it is to end."""

    def __init__(self, environment: Mapping[str, str], screen: Screen, var_dir: Path) -> None:
        self._environment = environment
        self._screen = screen
        self._var_dir = var_dir
        self._starting: asyncio.Task[None] | None = None

    @property
    def mine(self) -> bool:
        """Whether it was started here."""
        return self._starting is not None

    def log_file(self, name: str) -> str:
        """Return where the output of an agent goes, as a person would type it."""
        return shown(self._var_dir / "log" / f"{name}.log")

    async def begin(self, s3: str, *, lake: bool) -> StackState:
        """Return a stack whose servers serve and whose agents run, be it that these still load their models.

        Raises StartupRefused where none can be started, or the one that runs is of another kind than asked for.
        """
        state = load_state(self._var_dir)
        if state is not None:
            _refuse_other(state, s3, lake=lake)
            self._screen.step(f"the stack that runs already is used (Kafka, registry, Redis, {state.s3_kind}, agents)")
            return state
        servers, megabytes = ("Redis, S3 and Kafka Connect", 400) if lake else ("Redis and S3", 190)
        self._screen.step(f"starting Kafka, schema registry, {servers} (a first start downloads about {megabytes} MB)")
        more = (*(("--s3", s3) if s3 else ()), *(("--lake",) if lake else ()))
        self._starting = asyncio.create_task(self._up(more))
        while (state := load_state(self._var_dir)) is None:
            await asyncio.wait({self._starting}, timeout=_POLL_SECONDS)
            if self._starting.done():
                self._starting.result()
        return state

    def check(self) -> None:
        """Raise StartupRefused, naming the log file, when the stack or one of its agents has ended for good."""
        if self._starting is not None and self._starting.done():
            self._starting.result()
        state = load_state(self._var_dir)
        if state is None:
            raise StartupRefused(f"the stack has ended; see {self.log_file('stack')}")
        for server in state.servers:
            if server.exit_code is not None:
                raise StartupRefused(why_ended(server.name, server.exit_code, Path(self.log_file(server.name))))

    async def ready(self) -> None:
        """Wait until every agent and the API serve. Raises StartupRefused when they do not."""
        if self._starting is not None:
            await self._starting
        if not await ended(self._ready_or_gone, _READY_SECONDS):
            raise StartupRefused(f"the stack that runs did not become ready; see {self.log_file('stack')}")
        self.check()

    def _ready_or_gone(self) -> bool:
        state = load_state(self._var_dir)
        return state is None or state.ready

    async def end(self) -> None:
        """End a stack that was started here; another one stays."""
        if self._starting is not None:
            self._starting.cancel()
            with suppress(asyncio.CancelledError, StartupRefused):
                await self._starting
            await run_verb(self._environment, "stack", "down")
            self._screen.line("the servers were ended; their data and logs stay in " + shown(self._var_dir))

    async def _up(self, more: tuple[str, ...]) -> None:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", "stack", "up", "--detach", "--agents", *more),
            env={**self._environment, "PYTHONPATH": str(ROOT)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        assert process.stdout is not None
        last = ""
        try:
            async for line in process.stdout:
                text = line.decode(errors="replace").rstrip()
                # Its own clock and the list of endpoints are for `stack status`.
                if text.startswith("["):
                    self._screen.step(text.partition("] ")[2])
                elif text.startswith("sightline:"):
                    last = text.removeprefix("sightline: ")
            code = await process.wait()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
            raise
        if code != 0:
            raise StartupRefused(
                f"the stack did not start (exit code {code}): {last or 'no reason was given'}; "
                f"see {self.log_file('stack')}"
            )


def _refuse_other(state: StackState, s3: str, *, lake: bool) -> None:
    end_it = "end it with `./sightline stack down`"
    if s3 and s3 != state.s3_kind:
        raise StartupRefused(f"a stack with {state.s3_kind} runs; {end_it}, or leave --s3 out")
    if not set(PIPELINE) <= {server.name for server in state.servers}:
        raise StartupRefused(f"the stack that runs has no agents (`stack up --agents` has); {end_it}")
    if lake and "SIGHTLINE_LAKE_CONNECT_URL" not in state.environment:
        raise StartupRefused(f"the stack that runs has no lake; {end_it}")
