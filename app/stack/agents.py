"""Processes of `stack up --agents` beside the servers: all agents, the bridge and the API. Their verbs restart them.

If one ends for good (too many dead letters, a refusal), the servers and the other processes continue. `stack status`
and its log say why, and `./sightline worker NAME --restart` runs it again after the cause is repaired.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from app.errors import StartupRefused
from app.exit_codes import ExitCode
from app.stack.options import StackOptions
from app.stack.ports import PortLease, lease_port
from app.stack.processes import ServerCommand
from app.stack.verbs import verb_server

BRIDGE: Final = "bridge"
API: Final = "api"
# Preferred port; another one is used if it is taken.
_USUAL_API_PORT: Final = 8080


def agent_words(options: StackOptions, *, with_queue: bool) -> dict[str, tuple[str, ...]]:
    """Return the verbs of the agents by name, and of the bridge if notifications arrive in a queue."""
    words: dict[str, tuple[str, ...]] = {agent: ("worker", agent, "--restart") for agent in options.agents}
    if with_queue:
        words[BRIDGE] = ("bridge", "sqs", "--restart")
    return words


def api_words(options: StackOptions) -> tuple[str, ...]:
    """Return the verb of the API."""
    return ("api", "--restart", "--score" if options.api_score else "--no-score")


def api_lease(options: StackOptions) -> PortLease:
    """Return the port of the API: the requested, else the preferred, else any free port. Raises StartupRefused."""
    if options.api_port is not None:
        return lease_port(options.api_port, "the API")
    try:
        return lease_port(_USUAL_API_PORT, "the API")
    except StartupRefused:
        return lease_port(None, "the API")


def workers_dir(options: StackOptions) -> Path:
    """Return the folder of workers' tables: with the servers' data, so that a fresh stack starts with empty tables."""
    return options.data_dir.resolve() / "workers"


def agent_command(
    options: StackOptions, name: str, words: tuple[str, ...], environment: Mapping[str, str], port: int
) -> ServerCommand:
    """Return how to start a process. `environment`, with the stack's addresses, overrides the caller's variables."""
    settings = {**os.environ, **environment, "SIGHTLINE_STACK_VAR_DIR": str(options.var_dir.resolve())}
    if name != API:
        settings["SIGHTLINE_WORKER_HTTP_PORT"] = str(port)
    return verb_server(name, words, options.log_dir / f"{name}.log", settings)


def why_ended(name: str, code: int, log_file: Path) -> str:
    """Return a sentence about a process that ended for good, and what to do."""
    if code == ExitCode.CEILING:
        return (
            f"{name} stopped after too many dead letters; look at `./sightline dead-letters ls` and {log_file}, mend, "
            f"then `./sightline worker {name} --restart` or `./sightline stack down` and `up` start it again"
        )
    return f"{name} ended for good (exit code {code}); see {log_file}"
