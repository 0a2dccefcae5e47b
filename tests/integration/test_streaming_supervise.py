"""`./sightline worker NAME --restart`: a child that died is started again, a refusal is not, nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.cli.supervise import next_wait, worth_restarting
from app.settings import ROOT
from app.streaming.failstop import EXIT_CEILING, EXIT_FAILED
from tests.support.eventually import eventually

CHILD = """
import os, pathlib, sys, threading
folder = pathlib.Path(sys.argv[1])
number = len(list(folder.glob("start-*")))
(folder / f"start-{number}").write_text(str(os.getpid()))
if number == 0:
    os._exit(70)
threading.Event().wait(60)
"""
PARENT = """
import sys
from app.cli.supervise import supervise
sys.exit(supervise("identify", lambda _: [sys.executable, "-c", sys.argv[2], sys.argv[1]]))
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path), CHILD], cwd=ROOT, env=dict(os.environ))


async def second_child(folder: Path) -> psutil.Process:
    path = folder / "start-1"
    await eventually(lambda: path.exists() and path.read_text(), 20)
    return psutil.Process(int(path.read_text()))


async def test_a_child_that_died_is_started_again_and_sigterm_ends_both(
    supervisor: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    child = await second_child(tmp_path)
    supervisor.send_signal(signal.SIGTERM)
    await eventually(lambda: supervisor.poll() is not None, 20)
    assert not child.is_running()


async def test_children_end_with_a_parent_that_is_killed(supervisor: subprocess.Popen[bytes], tmp_path: Path) -> None:
    child = await second_child(tmp_path)
    supervisor.kill()
    supervisor.wait()
    await eventually(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE, 20)


def test_what_is_started_again_and_when() -> None:
    assert [worth_restarting(code) for code in (0, 2, EXIT_CEILING)] == [False, False, False]
    assert [worth_restarting(code) for code in (EXIT_FAILED, 1, -signal.SIGKILL)] == [True, True, True]
    waits = [0.5]
    for _ in range(7):
        waits.append(next_wait(waits[-1], lived_seconds=1))
    assert waits[1:] == [1, 2, 4, 8, 16, 30, 30]
    assert next_wait(30, lived_seconds=600) == 1
