"""Restarting a worker that died, for local use; systemd, Compose or Kubernetes do it elsewhere."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from app.streaming.failstop import EXIT_CEILING

_EXIT_REFUSED: Final = 2
_FIRST_WAIT_SECONDS: Final = 1.0
_LONGEST_WAIT_SECONDS: Final = 30.0
# A child that lived so long has earned the shortest wait again.
_PROVEN_SECONDS: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1


def die_with_parent() -> None:
    """Ask Linux to end this process when its parent ends, also by kill -9; elsewhere do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def next_wait(wait_seconds: float, lived_seconds: float) -> float:
    """Return how long to wait after a child that waited `wait_seconds` before its start and then lived."""
    return _FIRST_WAIT_SECONDS if lived_seconds >= _PROVEN_SECONDS else min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)


def worth_restarting(code: int) -> bool:
    """Whether a child that ended with `code` is started again: not after an orderly end, a refusal or a ceiling."""
    return code not in (0, _EXIT_REFUSED, EXIT_CEILING)


def supervise(name: str, command: Callable[[str], list[str]] | None = None) -> int:
    """Run the worker, again and again; returns its last exit code. SIGTERM and SIGINT are passed on. Blocks."""
    argv = command(name) if command is not None else [sys.executable, "-m", "app", "worker", name]
    child: subprocess.Popen[bytes] | None = None
    ending = threading.Event()

    def pass_on(number: int, _: object) -> None:
        ending.set()
        if child is not None and child.poll() is None:
            child.send_signal(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    wait_seconds = _FIRST_WAIT_SECONDS / 2
    while True:
        started = time.monotonic()
        child = subprocess.Popen(argv, preexec_fn=die_with_parent, env=os.environ)
        code = child.wait()
        if ending.is_set() or not worth_restarting(code):
            return code if code >= 0 else 128 - code
        wait_seconds = next_wait(wait_seconds, time.monotonic() - started)
        print(f"sightline: {name} ended with {code}; starting it again in {wait_seconds:.0f} s", file=sys.stderr)
        if ending.wait(wait_seconds):
            return 0
