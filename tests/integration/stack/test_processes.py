"""Servers end with their parent, and what a killed parent left is recognised for certain."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from app.errors import StartupRefused
from app.settings import ROOT
from app.stack.agents import api_lease
from app.stack.local import REDIS, LocalStack
from app.stack.options import StackOptions
from app.stack.ports import HOST, lease_port
from app.stack.processes import (
    ProcessIdentity,
    ServerCommand,
    ServerProcess,
    end_stale,
    identify_process,
    write_pid_file,
)
from app.stack.state import load_state
from tests.support.eventually import eventually

pytestmark = pytest.mark.services

# A stack of Redis alone: up in a tenth of a second, and supervised like any other.
_REDIS_STACK = """
import asyncio, pathlib, sys
from app.stack.local import LocalStack
from app.stack.options import StackOptions

async def run() -> None:
    options = StackOptions(var_dir=pathlib.Path(sys.argv[1]), with_kafka=False, with_registry=False, with_s3=False)
    async with LocalStack(options) as stack:
        await stack.wait_for_exit()

asyncio.run(run())
"""


def _redis_only(var_dir: Path) -> StackOptions:
    return StackOptions(var_dir=var_dir, with_kafka=False, with_registry=False, with_s3=False)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that nobody else knows."""
    process = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def dead_owner() -> ProcessIdentity:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identify_process(process.pid)
    process.kill()
    process.wait()
    process.communicate()
    return identity


async def test_servers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", _REDIS_STACK, str(tmp_path), cwd=ROOT)
    try:
        state = await eventually(lambda: load_state(tmp_path), 20)
        redis = identify_process(state.servers[0].pid)
        assert redis.alive()
    finally:
        parent.kill()
        await parent.wait()
    await eventually(lambda: not redis.alive(), 5, message="redis ended with its parent")
    assert load_state(tmp_path) is None
    # The files that the killed parent left do not stand in the way of the next stack.
    async with LocalStack(_redis_only(tmp_path)) as stack:
        assert stack.pid_of(REDIS) is not None


async def test_a_stale_process_is_ended_at_the_next_start(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], dead_owner: ProcessIdentity
) -> None:
    """As on a system without the kernel's parent-death signal."""
    write_pid_file(tmp_path / "run" / "kafka.pid", identify_process(sleeper.pid), dead_owner)
    said: list[str] = []
    async with LocalStack(_redis_only(tmp_path), said.append):
        assert sleeper.poll() == -signal.SIGKILL
    assert said[0] == "ended kafka, left over from a stack that was killed"


async def test_a_process_that_got_a_stale_pid_is_not_touched(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], dead_owner: ProcessIdentity
) -> None:
    reused = ProcessIdentity(sleeper.pid, "an earlier boot:123")
    write_pid_file(tmp_path / "kafka.pid", reused, dead_owner)
    assert await end_stale(tmp_path) == ()
    assert sleeper.poll() is None
    assert not (tmp_path / "kafka.pid").exists()


async def test_a_server_of_a_living_owner_is_not_touched(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    write_pid_file(tmp_path / "kafka.pid", identify_process(sleeper.pid), identify_process(os.getpid()))
    assert await end_stale(tmp_path) == ()
    assert sleeper.poll() is None


async def test_a_frozen_server_is_ended_too(tmp_path: Path) -> None:
    how = ServerCommand("sleepy", (sys.executable, "-c", "import signal; signal.pause()"), tmp_path / "log", tmp_path)
    server = ServerProcess(how, tmp_path / "run")
    server.start()
    assert server.pid is not None
    process = psutil.Process(server.pid)
    await eventually(lambda: process.cmdline()[1:2] == ["-c"], message="the guard became the command")
    server.send(signal.SIGSTOP)
    await eventually(lambda: process.status() == psutil.STATUS_STOPPED)
    await server.stop()
    assert server.exit_code == -signal.SIGTERM
    assert list((tmp_path / "run").iterdir()) == []


async def test_a_second_stack_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    async with LocalStack(_redis_only(tmp_path)) as first:
        with pytest.raises(StartupRefused, match="a stack already runs in"):
            await LocalStack(_redis_only(tmp_path)).__aenter__()
        assert first.pid_of(REDIS) is not None, "the refused one ended nothing of the first"
        assert load_state(tmp_path) is not None


async def test_a_port_in_use_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        options = StackOptions(var_dir=tmp_path, redis_port=port, with_kafka=False, with_registry=False, with_s3=False)
        with pytest.raises(StartupRefused, match=rf"port {port} for Redis is in use"):
            await LocalStack(options).__aenter__()
    assert list((tmp_path / "run").glob("*.pid")) == []


async def test_leased_ports_are_not_given_twice() -> None:
    first = lease_port()
    with pytest.raises(StartupRefused, match="in use"):
        lease_port(first.port)
    first.release()
    lease_port(first.port).release()


async def test_the_api_takes_the_port_that_is_asked_for_or_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StartupRefused, match=f"port {port} for the API is in use"):
            api_lease(StackOptions(api_port=port))
    first, second = api_lease(StackOptions()), api_lease(StackOptions())
    try:
        assert first.port != second.port, "the usual port is given once"
    finally:
        first.release()
        second.release()


async def test_too_little_disk_is_refused_in_one_sentence(tmp_path: Path) -> None:
    options = StackOptions(var_dir=tmp_path, min_free_bytes=10**18)
    with pytest.raises(StartupRefused, match=r"only .* GB free at .*; free some space"):
        await LocalStack(options).__aenter__()


async def test_a_server_that_dies_while_starting_is_explained_by_its_log(tmp_path: Path) -> None:
    # Redis refuses a data folder in which a directory has the name of its dump.
    (tmp_path / "stack" / "redis" / "dump.rdb").mkdir(parents=True)
    with pytest.raises(StartupRefused, match=r"redis ended while starting .*dump\.rdb|redis ended while starting"):
        await LocalStack(_redis_only(tmp_path)).__aenter__()


async def test_a_server_that_ends_by_itself_is_reported(tmp_path: Path) -> None:
    async with LocalStack(_redis_only(tmp_path)) as stack:
        pid = stack.pid_of(REDIS)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(5):
            sentence = await stack.wait_for_exit()
    assert sentence.startswith("redis ended by itself (exit code -9); see ")
