"""One folder for each worker, locked while it runs: two workers must not open the same tables."""

from __future__ import annotations

import fcntl
import os
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from app.errors import StartupRefused
from app.settings import WorkerSettings

_MAX_SLOTS = 64


@dataclass(frozen=True, slots=True)
class WorkerHome:
    """A locked folder. The lock ends with the process, also after kill -9, or with `release`."""

    worker_id: str
    path: Path
    _lock: IO[str]

    def release(self) -> None:
        """Give the folder to the next worker."""
        self._lock.close()


def claim_home(settings: WorkerSettings, agent: str) -> WorkerHome:
    """Lock `<data dir>/<agent>-<id>`; without an id the first free number is taken, so tables are found again.

    Raises StartupRefused when the configured id runs already.
    """
    if settings.id:
        lock = _lock(settings.data_dir / f"{agent}-{settings.id}")
        if lock is None:
            raise StartupRefused(
                f"a {agent} worker with SIGHTLINE_WORKER_ID={settings.id} already runs on {settings.data_dir}; choose "
                "another id, or leave it empty for a free one"
            )
        return WorkerHome(settings.id, settings.data_dir / f"{agent}-{settings.id}", lock)
    for slot in range(_MAX_SLOTS):
        path = settings.data_dir / f"{agent}-{slot}"
        lock = _lock(path)
        if lock is not None:
            return WorkerHome(f"{socket.gethostname()}-{agent}-{slot}", path, lock)
    raise StartupRefused(f"{_MAX_SLOTS} {agent} workers already run on {settings.data_dir}")


def _lock(path: Path) -> IO[str] | None:
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "lock").open("a+")
    except OSError as error:
        raise StartupRefused(f"cannot use the data folder {path}: {error}; set SIGHTLINE_WORKER_DATA_DIR") from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    lock.truncate(0)
    lock.write(f"{os.getpid()}\n")
    lock.flush()
    return lock
