"""`./sightline worker NAME --restart`: a child that died is started again, a refusal is not, nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.exit_codes import ExitCode
from app.settings import ROOT, Settings, WorkerSettings, load_settings
from app.verbs.supervise import child_of_each_gpu, next_wait, worth_restarting
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
from app.verbs.supervise import Child, supervise
sys.exit(supervise([Child(("one",), "one")], command=lambda _: [sys.executable, "-c", sys.argv[2], sys.argv[1]]))
"""
# Of two children the first to be started ends as it is told; the other one would stay.
PAIR = """
import sys
from app.verbs.supervise import Child, supervise
children = [Child(("one",), "one", {"CODE": sys.argv[2]}), Child(("two",), "two", {"CODE": ""})]
child = "import os, sys, threading; c = os.environ['CODE']; sys.exit(int(c)) if c else threading.Event().wait(60)"
sys.exit(supervise(children, int(sys.argv[1]), lambda _: [sys.executable, "-c", child]))
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


@pytest.mark.parametrize(
    ("code", "ceiling_exit", "wanted"),
    [(ExitCode.CEILING, ExitCode.CEILING, ExitCode.CEILING), (ExitCode.CEILING, 0, 0), (2, 0, 2)],
    ids=["ceiling", "ceiling for Docker", "refusal"],
)
def test_a_child_that_ended_for_good_ends_all_and_says_why(code: int, ceiling_exit: int, wanted: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PAIR, str(ceiling_exit), str(code)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == wanted
    assert ("too many dead letters" in done.stderr) == (code == ExitCode.CEILING)
    assert "starting it again" not in done.stderr


def test_each_gpu_has_a_worker_with_a_port_and_an_id_of_its_own() -> None:
    plain = child_of_each_gpu(Settings(), "score", 2)
    assert [child.title for child in plain] == ["score on GPU 0", "score on GPU 1"]
    assert [dict(child.variables) for child in plain] == [
        {"SIGHTLINE_INFERENCE_DEVICE": "gpu", "SIGHTLINE_INFERENCE_GPU_INDEX": "0"},
        {"SIGHTLINE_INFERENCE_DEVICE": "gpu", "SIGHTLINE_INFERENCE_GPU_INDEX": "1"},
    ]
    named = Settings(worker=WorkerSettings(id="blue", http_port=9100))
    loaded = [load_settings(child.variables) for child in child_of_each_gpu(named, "score", 3)]
    assert [one.inference.gpu_index for one in loaded] == [0, 1, 2]
    assert [one.worker.id for one in loaded] == ["blue-gpu0", "blue-gpu1", "blue-gpu2"]
    assert [one.worker.http_port for one in loaded] == [9100, 9101, 9102]


def test_what_is_started_again_and_when() -> None:
    assert [worth_restarting(code) for code in (0, 2, ExitCode.CEILING)] == [False, False, False]
    assert [worth_restarting(code) for code in (ExitCode.FAILED, 1, -signal.SIGKILL)] == [True, True, True]
    waits = [0.5]
    for _ in range(7):
        waits.append(next_wait(waits[-1], lived_seconds=1))
    assert waits[1:] == [1, 2, 4, 8, 16, 30, 30]
    assert next_wait(30, lived_seconds=600) == 1
