"""What a running stack tells the other verbs: its endpoints as SIGHTLINE_* variables, in `<var>/stack.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from app.settings import ROOT
from app.stack.ports import HOST
from app.stack.processes import ProcessIdentity


@dataclass(frozen=True, slots=True)
class ServerState:
    """One server of the running stack; `exit_code` once one has ended without which the stack goes on."""

    name: str
    pid: int
    endpoint: str
    log_file: str
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class StackState:
    """A running stack. `environment` holds defaults for settings, beneath the caller's own environment.

    Its servers serve; `ready` says whether its agents do too.
    """

    owner: ProcessIdentity
    s3_kind: str
    environment: Mapping[str, str]
    servers: tuple[ServerState, ...]
    ready: bool = True

    @property
    def api_url(self) -> str | None:
        """The address of the API, where the stack runs agents."""
        port = self.environment.get("SIGHTLINE_API_PORT")
        return f"http://{HOST}:{port}" if port else None


def state_file(var_dir: Path) -> Path:
    """Where the state of a stack under `var_dir` lies."""
    return var_dir / "stack.json"


def load_state(var_dir: Path) -> StackState | None:
    """Return the state of the stack that runs under `var_dir`, or None when none does (also after its kill -9)."""
    try:
        body = json.loads(state_file(var_dir).read_text())
        state = StackState(
            owner=ProcessIdentity(int(body["owner"]["pid"]), str(body["owner"]["started"])),
            s3_kind=str(body["s3_kind"]),
            environment={str(name): str(value) for name, value in body["environment"].items()},
            servers=tuple(ServerState(**server) for server in body["servers"]),
            ready=bool(body["ready"]),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None
    return state if state.owner.alive() else None


def save_state(var_dir: Path, state: StackState) -> None:
    """Publish `state` atomically."""
    body = {
        "owner": {"pid": state.owner.pid, "started": state.owner.started},
        "s3_kind": state.s3_kind,
        "environment": dict(state.environment),
        "servers": [asdict(server) for server in state.servers],
        "ready": state.ready,
    }
    partial = state_file(var_dir).with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(json.dumps(body, indent=1) + "\n")
    partial.replace(state_file(var_dir))


def remove_state(var_dir: Path) -> None:
    """Say that no stack runs."""
    state_file(var_dir).unlink(missing_ok=True)


def with_running_stack(environment: Mapping[str, str]) -> dict[str, str]:
    """Return `environment` with the endpoints of the running stack beneath it, where one runs; else a copy.

    What the caller set himself wins. The stack is looked for under SIGHTLINE_STACK_VAR_DIR, else under var/.
    """
    var_dir = Path(environment.get("SIGHTLINE_STACK_VAR_DIR", ROOT / "var"))
    state = load_state(var_dir)
    return {**(state.environment if state is not None else {}), **environment}
