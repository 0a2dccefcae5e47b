"""`./sightline stack status`: what runs, where it answers, and where the user's API key lies."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import psutil
import typer

from app.exit_codes import ExitCode
from app.settings import load_settings
from app.stack.state import ServerState, StackState, load_state
from app.stack.store_servers import MINISTACK_NOTICE
from app.stack.user_key import key_file
from app.verbs.output import JsonOption, show


def print_status(
    as_json: JsonOption = False,
    as_environment: Annotated[
        bool, typer.Option("--env", help='Lines for a shell: eval "$(./sightline stack status --env)"')
    ] = False,
) -> None:
    """Print the endpoints of the running stack; exit code 1 when none runs, or a server or agent of it does not."""
    var_dir = load_settings(os.environ).stack.var_dir.resolve()
    state = load_state(var_dir)
    described = _described(state, var_dir)
    if state is None and not as_json:
        print("no stack runs; start one with `./sightline stack up`", file=sys.stderr)
    elif state is not None and as_environment:
        words = [f"export {name}={value}" for name, value in state.environment.items()]
        show(as_json, described, words, indent=1)
    else:
        show(as_json, described, () if state is None else state_in_words(state, var_dir), indent=1)
    raise typer.Exit(ExitCode.of_check(described["running"]))


def state_in_words(state: StackState, var_dir: Path) -> Iterator[str]:
    """Yield the lines of `stack status` about a running stack."""
    described = _described(state, var_dir)
    for server in described["servers"]:
        yield f"  {server['name']:<10} {server['endpoint']:<46} pid {server['pid']:<7} {_condition(server)}"
    for name, value in state.environment.items():
        yield f"  {name}={value}"
    if described["api_key_file"]:
        yield f"  the API key for {state.api_url}/console lies in {described['api_key_file']}"
    if state.s3_kind == "ministack":
        yield f"  note: {MINISTACK_NOTICE}"


def _condition(server: dict[str, Any]) -> str:
    if server["running"]:
        return f"{server['rss_bytes'] / 1e6:4.0f} MB"
    if server["exit_code"] is None:
        return f"not running; see {server['log_file']}"
    return f"ended for good (exit code {server['exit_code']}); see {server['log_file']}"


def _described(state: StackState | None, var_dir: Path) -> dict[str, Any]:
    if state is None:
        return {"running": False}
    servers = []
    for server in state.servers:
        rss_bytes = _rss_bytes(server)
        servers.append(
            {
                "name": server.name,
                "running": rss_bytes > 0,
                "exit_code": server.exit_code,
                "endpoint": server.endpoint,
                "pid": server.pid,
                "rss_bytes": rss_bytes,
                "log_file": server.log_file,
            }
        )
    path = key_file(var_dir)
    return {
        "running": all(server["running"] for server in servers),
        "ready": state.ready,
        "pid": state.owner.pid,
        "s3": state.s3_kind,
        "servers": servers,
        "environment": dict(state.environment),
        "api": state.api_url,
        "api_key_file": str(path) if state.api_url and path.exists() else None,
    }


def _rss_bytes(server: ServerState) -> int:
    """Return the memory of a server and of what it keeps alive; 0 when it does not run."""
    if server.exit_code is not None:
        return 0
    total = 0
    try:
        process = psutil.Process(server.pid)
        for each in (process, *process.children(recursive=True)):
            total += int(each.memory_info().rss)
    except psutil.NoSuchProcess:
        return total
    return total
