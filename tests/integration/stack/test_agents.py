"""`stack up --agents`: the pipeline and the API beside the servers, kept alive, seen, and never left behind."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio

from agents import PIPELINE
from app.stack.state import load_state
from tests.support.eventually import eventually
from tests.support.verbs import run_verb

pytestmark = [pytest.mark.services, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]
AGENTS = {*PIPELINE, "bridge", "api"}


class Stack:
    """A stack with agents in a folder of its own, asked by the verbs."""

    def __init__(self, var_dir: Path) -> None:
        self.var_dir = var_dir
        self._variables = {"SIGHTLINE_STACK_VAR_DIR": str(var_dir), "SIGHTLINE_KAFKA_PARTITIONS": "2"}

    async def run(self, *words: str) -> tuple[int, str, str]:
        return await run_verb(self._variables, "stack", *words)

    async def status(self) -> tuple[int, dict[str, dict[str, Any]]]:
        code, told, _ = await self.run("status", "--json")
        return code, {server["name"]: server for server in json.loads(told)["servers"]}

    def processes(self) -> list[str]:
        """Return the command lines of everything that was started for this stack and still runs."""
        found = []
        for process in psutil.process_iter(["cmdline", "environ", "cwd", "status"]):
            words = " ".join(process.info["cmdline"] or ())
            told = (process.info["environ"] or {}).get("SIGHTLINE_STACK_VAR_DIR", "")
            mine = any(str(self.var_dir) in text for text in (words, told, process.info["cwd"] or ""))
            if mine and process.info["status"] != psutil.STATUS_ZOMBIE:
                found.append(words)
        return found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    running = Stack(tmp_path_factory.mktemp("agents"))
    code, told, failed = await running.run("up", "--agents", "--no-score", "--detach")
    assert code == 0, told + failed
    yield running
    await running.run("down")


def worker_of(supervisor_pid: int) -> psutil.Process | None:
    """Return the one process that a supervisor keeps alive, while it runs."""
    children = psutil.Process(supervisor_pid).children()
    return children[0] if len(children) == 1 and children[0].status() != psutil.STATUS_ZOMBIE else None


def healthy(endpoint: str) -> bool:
    try:
        with urllib.request.urlopen(f"{endpoint}/healthz", timeout=3) as answer:
            return bool(json.load(answer)["healthy"])
    except OSError:
        return False


async def test_status_shows_every_agent_and_each_answers_where_it_says(stack: Stack) -> None:
    code, servers = await stack.status()
    assert code == 0
    assert set(servers) >= AGENTS
    assert [name for name in AGENTS if not healthy(servers[name]["endpoint"])] == []
    # What a supervisor keeps alive is counted with it.
    assert servers["score"]["rss_bytes"] > servers["api"]["rss_bytes"]
    for name in AGENTS:
        assert Path(servers[name]["log_file"]).stat().st_size > 0


async def test_other_verbs_learn_the_port_of_the_api_and_the_workers_folder(stack: Stack) -> None:
    _, servers = await stack.status()
    state = load_state(stack.var_dir)
    assert state is not None and state.ready
    assert state.api_url == servers["api"]["endpoint"]
    workers = Path(state.environment["SIGHTLINE_WORKER_DATA_DIR"])
    assert workers.is_relative_to(stack.var_dir / "stack"), "a fresh stack begins with fresh tables"
    assert {path.name for path in workers.iterdir()} == {f"{agent}-0" for agent in PIPELINE}


async def test_the_processes_of_the_stack_are_all_found(stack: Stack) -> None:
    """Of this file's own looking: a server that it does not see could be left behind unnoticed."""
    state = load_state(stack.var_dir)
    assert state is not None
    # Each agent is a supervisor and what it keeps alive; beside them the servers, and the stack itself.
    assert len(stack.processes()) == len(state.servers) + len(AGENTS) + 1


@pytest.mark.parametrize("name", ["index", "bridge", "api"])
async def test_what_is_killed_comes_back_at_the_same_address(stack: Stack, name: str) -> None:
    _, servers = await stack.status()
    pid, endpoint = servers[name]["pid"], servers[name]["endpoint"]
    first = worker_of(pid)
    assert first is not None
    first.kill()
    await eventually(lambda: (again := worker_of(pid)) is not None and again != first and healthy(endpoint), 40)
    code, servers = await stack.status()
    assert (code, servers[name]["endpoint"]) == (0, endpoint)


async def test_an_agent_that_ended_for_good_is_seen_and_leaves_the_rest_running(stack: Stack) -> None:
    _, servers = await stack.status()
    os.kill(servers["moderate"]["pid"], signal.SIGTERM)

    async def told() -> bool:
        _, servers = await stack.status()
        return servers["moderate"]["exit_code"] is not None

    await eventually(told, 40)
    code, servers = await stack.status()
    assert (code, servers["moderate"]["exit_code"]) == (1, 0)
    assert {name for name, server in servers.items() if not server["running"]} == {"moderate"}
    _, shown, _ = await stack.run("status")
    assert f"ended for good (exit code 0); see {stack.var_dir / 'log' / 'moderate.log'}" in shown
    assert "moderate ended for good" in (stack.var_dir / "log" / "stack.log").read_text()


async def test_nothing_is_left_of_a_stack_that_was_killed(stack: Stack) -> None:
    """Last: workers get SIGTERM and, without a broker, give up what they hold after their bounded drain."""
    state = load_state(stack.var_dir)
    assert state is not None
    os.kill(state.owner.pid, signal.SIGKILL)
    await eventually(lambda: stack.processes() == [], 60)
    assert load_state(stack.var_dir) is None
