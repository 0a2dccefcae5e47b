"""State of a running stack for other verbs: its endpoints as SIGHTLINE_* variables, in `<var>/stack.json`."""

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
    """Server of the running stack. `exit_code` is set if it ended and the stack continues without it."""

    name: str
    pid: int
    endpoint: str
    log_file: str
    exit_code: int | None = None


@dataclass(frozen=True, slots=True)
class StackState:
    """Running stack. `environment` contains defaults for settings, which the caller's environment overrides.

    Its servers serve. `ready` is true if its agents serve too.
    """

    owner: ProcessIdentity
    s3_kind: str
    environment: Mapping[str, str]
    servers: tuple[ServerState, ...]
    ready: bool = True

    @property
    def api_url(self) -> str | None:
        """Address of the API, if the stack runs agents."""
        port = self.environment.get("SIGHTLINE_API_PORT")
        return f"http://{HOST}:{port}" if port else None


def state_file(var_dir: Path) -> Path:
    """Return the path of the state file of a stack under `var_dir`."""
    return var_dir / "stack.json"


def load_state(var_dir: Path) -> StackState | None:
    """Return the state of the stack that runs under `var_dir`, or None if none runs (also after its kill -9)."""
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
    """Delete the state: no stack runs."""
    state_file(var_dir).unlink(missing_ok=True)


def with_running_stack(environment: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of `environment` with the endpoints of the running stack as defaults, if a stack runs.

    Variables of the caller override them. The stack is searched under SIGHTLINE_STACK_VAR_DIR, else under var/.
    """
    var_dir = Path(environment.get("SIGHTLINE_STACK_VAR_DIR", ROOT / "var"))
    state = load_state(var_dir)
    return {**(state.environment if state is not None else {}), **environment}
