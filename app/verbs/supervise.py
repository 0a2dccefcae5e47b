"""Restarting processes that died, on one machine or in one container; systemd or Kubernetes do it elsewhere."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from app.exit_codes import ExitCode
from app.settings import Settings

_FIRST_WAIT_SECONDS: Final = 1.0
_LONGEST_WAIT_SECONDS: Final = 30.0
# A child that lived so long has earned the shortest wait again.
_PROVEN_SECONDS: Final = 60.0
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True)
class Child:
    """One process to keep alive: its verb with arguments, what it is called in messages, and its own variables."""

    words: tuple[str, ...]
    title: str
    variables: Mapping[str, str] = field(default_factory=dict)


def child_of_each_gpu(settings: Settings, agent: str, gpus: int) -> tuple[Child, ...]:
    """Return one child for each of the machine's `gpus`.

    Each has a GPU, a port and an id of its own: of a fixed port the following ones, of a configured id one with the
    GPU's number behind it. Without an id each takes the first free data folder, as workers do.
    """
    children = []
    for index in range(gpus):
        variables = {"SIGHTLINE_INFERENCE_DEVICE": "gpu", "SIGHTLINE_INFERENCE_GPU_INDEX": str(index)}
        if settings.worker.http_port:
            variables["SIGHTLINE_WORKER_HTTP_PORT"] = str(settings.worker.http_port + index)
        if settings.worker.id:
            variables["SIGHTLINE_WORKER_ID"] = f"{settings.worker.id}-gpu{index}"
        children.append(Child(("worker", agent), f"{agent} on GPU {index}", variables))
    return tuple(children)


def die_with_parent() -> None:
    """Ask Linux to end this process when its parent's thread ends, also by kill -9; elsewhere do nothing."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def next_wait(wait_seconds: float, lived_seconds: float) -> float:
    """Return how long to wait after a child that waited `wait_seconds` before its start and then lived."""
    return _FIRST_WAIT_SECONDS if lived_seconds >= _PROVEN_SECONDS else min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)


def worth_restarting(code: int) -> bool:
    """Whether a child that ended with `code` is started again: not after an orderly end, a refusal or a ceiling."""
    return code not in (ExitCode.OK, ExitCode.REFUSED, ExitCode.CEILING)


def supervise(
    children: Sequence[Child],
    ceiling_exit: int = ExitCode.CEILING,
    command: Callable[[tuple[str, ...]], list[str]] | None = None,
) -> int:
    """Run the children, again and again. Blocks; SIGTERM and SIGINT are passed on.

    Returns when one of them has ended in a way that is not worth a restart (the others are ended too): its exit code,
    or `ceiling_exit` after too many dead letters.
    """
    supervisor = _Supervisor(command or (lambda words: [sys.executable, "-m", "app", *words]))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: supervisor.end(number))
    # One thread for each child, which lives as long as the child needs a parent (see die_with_parent).
    threads = [threading.Thread(target=supervisor.keep, args=(child,), name=child.title) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if supervisor.code == ExitCode.CEILING:
        _say("too many dead letters: not started again; look at `./sightline dead-letters ls`, mend, then start it")
        return ceiling_exit
    return supervisor.code


class _Supervisor:
    """What the threads share. `code` is the exit code of the first child that ended for good."""

    def __init__(self, command: Callable[[tuple[str, ...]], list[str]]) -> None:
        self.code = 0
        self._command = command
        self._ending = threading.Event()
        # Reentrant: a signal may arrive while the main thread holds it.
        self._lock = threading.RLock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def end(self, number: int) -> None:
        """Start nothing any more, and pass the signal on."""
        self._ending.set()
        with self._lock:
            for process in self._running.values():
                if process.poll() is None:
                    process.send_signal(number)

    def keep(self, child: Child) -> None:
        """Run one child until it has ended for good, or everything ends."""
        wait_seconds = _FIRST_WAIT_SECONDS / 2
        while True:
            started = time.monotonic()
            process = self._start(child)
            if process is None:
                return
            code = process.wait()
            if self._ending.is_set() or not worth_restarting(code):
                self._ended(code if code >= 0 else 128 - code)
                return
            wait_seconds = next_wait(wait_seconds, time.monotonic() - started)
            _say(f"{child.title} ended with {code}; starting it again in {wait_seconds:.0f} s")
            if self._ending.wait(wait_seconds):
                return

    def _start(self, child: Child) -> subprocess.Popen[bytes] | None:
        with self._lock:
            if self._ending.is_set():
                return None
            process = subprocess.Popen(
                self._command(child.words), preexec_fn=die_with_parent, env={**os.environ, **child.variables}
            )
            self._running[child.title] = process
            return process

    def _ended(self, code: int) -> None:
        with self._lock:
            if not self._ending.is_set():
                self.code = code
                self.end(signal.SIGTERM)
            self.code = self.code or code


def _say(text: str) -> None:
    print(f"sightline: {text}", file=sys.stderr, flush=True)
