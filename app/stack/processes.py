"""Server processes: started under guard, known by pid and start time, ended with their parent or at the next start.

Pids are reused, so a pid alone does not identify a process. Pid, start time and boot do. So a file `<name>.pid` that
survives a kill -9 of the parent shows with certainty whether the process still has to be ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

_GUARD: Final = Path(__file__).with_name("guard.py")
# Exists on Linux only.
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_POLL_SECONDS: Final = 0.05
# Kafka closes its logs in about 2 s, and the first time writes its class archive. A server that needs longer is killed
# and recovers at its next start.
_TERMINATE_SECONDS: Final = 20.0


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process of this boot of this machine."""

    pid: int
    started: str

    def alive(self) -> bool:
        """Return True if exactly this process still runs (a zombie does not)."""
        try:
            return identify_process(self.pid) == self and psutil.Process(self.pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False


def identify_process(pid: int) -> ProcessIdentity:
    """Return the identity of the running process `pid`; raises psutil.NoSuchProcess."""
    if _BOOT_ID.exists():
        # Clock ticks since boot; unlike psutil's create_time they do not change when the wall clock is set.
        try:
            after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            boot = _BOOT_ID.read_text().strip()
        except (FileNotFoundError, ProcessLookupError) as error:
            raise psutil.NoSuchProcess(pid) from error
        return ProcessIdentity(pid, f"{boot}:{after_name[19]}")
    return ProcessIdentity(pid, f"{psutil.Process(pid).create_time():.2f}")


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """Command of one server. `environment` is added to a minimal one. Output is appended to the log file."""

    name: str
    command: tuple[str, ...]
    log_file: Path
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    after_orderly_stop: Callable[[], None] | None = None


class ServerProcess:
    """One running server. Not thread-safe; start it from the thread that lives as long as the stack.

    (The kernel's parent-death signal follows the thread that started the child.)
    """

    def __init__(self, how: ServerCommand, pid_folder: Path) -> None:
        self.how = how
        self._pid_file = pid_folder / f"{how.name}.pid"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Pid of the running process."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def exit_code(self) -> int | None:
        """Exit code after the end; negative for a signal."""
        return None if self._process is None else self._process.poll()

    def start(self) -> None:
        """Start the server and return at once. It must not be running."""
        if self.pid is not None:
            raise ValueError(f"{self.how.name} already runs")
        kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        guarded = (sys.executable, "-I", "-S", str(_GUARD), str(os.getpid()), "--", *self.how.command)
        self.how.log_file.parent.mkdir(parents=True, exist_ok=True)
        self.how.directory.mkdir(parents=True, exist_ok=True)
        with self.how.log_file.open("ab") as log:
            self._process = subprocess.Popen(
                guarded,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.how.directory,
                env={**environment, **self.how.environment},
                # Own session: only the parent gets Ctrl-C, and ends the servers in order.
                start_new_session=True,
            )
        write_pid_file(self._pid_file, identify_process(self._process.pid), identify_process(os.getpid()))

    def send(self, signal_number: signal.Signals) -> None:
        """Send a signal to the process, if it runs."""
        if self.pid is not None:
            os.kill(self.pid, signal_number)

    def _kill(self) -> None:
        if self.pid is not None:
            kill_group(self.pid)

    async def stop(self, *, kill: bool = False) -> None:
        """End the process (TERM and, after the deadline, KILL; or KILL at once) and wait for its end."""
        if self.pid is not None:
            self.send(signal.SIGCONT)
            if kill:
                self._kill()
            else:
                self.send(signal.SIGTERM)
            if not await ended(lambda: self.pid is None, _TERMINATE_SECONDS):
                self._kill()
                await ended(lambda: self.pid is None, _TERMINATE_SECONDS)
            elif not kill and self.how.after_orderly_stop is not None:
                self.how.after_orderly_stop()
        self._pid_file.unlink(missing_ok=True)

    def last_lines(self, count: int = 5) -> str:
        """Return the end of its log, for the message about a failed start."""
        try:
            tail = self.how.log_file.read_bytes()[-8192:].decode(errors="replace")
        except FileNotFoundError:
            return ""
        return " | ".join(line.strip() for line in tail.splitlines()[-count:] if line.strip())


def kill_group(pid: int) -> None:
    """Kill a running process and, if it leads a group as the servers do, the processes of its group."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(pid, signal.SIGKILL)


async def ended(condition: Callable[[], bool], within_seconds: float) -> bool:
    """Wait until `condition` holds, at most `within_seconds`. Return the final value."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + within_seconds
    while not condition():
        if loop.time() > deadline:
            return False
        await asyncio.sleep(_POLL_SECONDS)
    return True


def write_pid_file(path: Path, process: ProcessIdentity, owner: ProcessIdentity) -> None:
    """Record that `owner` started `process`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    body = {"pid": process.pid, "started": process.started, "owner_pid": owner.pid, "owner_started": owner.started}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(body))
    partial.replace(path)


def read_pid_file(path: Path) -> tuple[ProcessIdentity, ProcessIdentity] | None:
    """Return (process, owner), or None for a missing or incomplete file."""
    try:
        body = json.loads(path.read_text())
        return (
            ProcessIdentity(int(body["pid"]), str(body["started"])),
            ProcessIdentity(int(body["owner_pid"]), str(body["owner_started"])),
        )
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None


def living_owner(pid_folder: Path) -> ProcessIdentity | None:
    """Return the process that runs a stack in this folder, unless it is this process."""
    for path in sorted(pid_folder.glob("*.pid")):
        recorded = read_pid_file(path)
        if recorded is not None and recorded[1].pid != os.getpid() and recorded[1].alive():
            return recorded[1]
    return None


async def end_stale(pid_folder: Path) -> tuple[str, ...]:
    """End all recorded processes whose owner is dead, and return their names. Processes of others are not touched."""
    names = []
    for path in sorted(pid_folder.glob("*.pid")):
        recorded = read_pid_file(path)
        if recorded is not None and recorded[0].alive():
            process, owner = recorded
            if owner.alive():
                continue
            kill_group(process.pid)
            await ended(lambda gone=process: not gone.alive(), _TERMINATE_SECONDS)  # type: ignore[misc]
            names.append(path.stem)
        path.unlink(missing_ok=True)
    return tuple(names)
