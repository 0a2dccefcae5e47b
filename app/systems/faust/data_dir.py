"""One folder for each worker, locked while it runs; in it one folder of tables for each set of changelogs.

Two workers must not open the same tables, and no worker may take tables for its own that were made from other
changelogs: their claims would make uploads repeats, and the offsets they keep belong to other records.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import shutil
import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

from app.errors import StartupRefused
from app.settings import WorkerSettings

logger = logging.getLogger(__name__)
_MAX_SLOTS = 64
_TABLES: Final = "tables-"
ORIGIN_FILE: Final = "origin.json"


@dataclass(frozen=True, slots=True)
class TablesOrigin:
    """What tables are made from: the changelogs (name to id) of one consumer group on one cluster."""

    cluster: str
    group: str
    changelogs: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class WorkerHome:
    """A locked folder. The lock ends with the process, also after kill -9, or with `release`.

    `tables` is where Faust keeps its files: for an agent that has tables, replace it by what `tables_folder` gives.
    """

    worker_id: str
    path: Path
    tables: Path
    _lock: IO[str]

    def release(self) -> None:
        """Give the folder to the next worker."""
        self._lock.close()


def home_folder(data_dir: Path, prefix: str, agent: str, name: str) -> Path:
    """Return the folder of the worker with this id or slot, which need not exist."""
    return data_dir / f"{prefix}{agent}-{name}"


def claim_home(settings: WorkerSettings, agent: str, prefix: str = "") -> WorkerHome:
    """Lock `<data dir>/<prefix><agent>-<id>`; without an id the first free number is taken, so tables are found again.

    Raises StartupRefused when the configured id runs already.
    """
    if settings.id:
        path = home_folder(settings.data_dir, prefix, agent, settings.id)
        lock = _lock(path)
        if lock is None:
            raise StartupRefused(
                f"a {agent} worker with SIGHTLINE_WORKER_ID={settings.id} already runs on {settings.data_dir}; choose "
                "another id, or leave it empty for a free one"
            )
        return WorkerHome(settings.id, path, path, lock)
    for slot in range(_MAX_SLOTS):
        path = home_folder(settings.data_dir, prefix, agent, str(slot))
        lock = _lock(path)
        if lock is not None:
            return WorkerHome(f"{socket.gethostname()}-{agent}-{slot}", path, path, lock)
    raise StartupRefused(f"{_MAX_SLOTS} {agent} workers already run on {settings.data_dir}")


def tables_folder(home: Path, origin: TablesOrigin) -> Path:
    """Return the folder in `home` for tables made from `origin`, new and empty where there was none. Blocks.

    Tables of other changelogs are left alone and named in the log, but for those whose changelogs exist no more (the
    group's topics of the same cluster were made anew): these are removed. Raises StartupRefused.
    """
    told = json.dumps(asdict(origin), sort_keys=True)
    mine = home / f"{_TABLES}{hashlib.sha256(told.encode()).hexdigest()[:16]}"
    try:
        mine.mkdir(exist_ok=True)
        (mine / ORIGIN_FILE).write_text(told + "\n")
        for other in sorted(set(home.glob(f"{_TABLES}*")) - {mine}):
            cluster, group = _origin_of(other)
            if (cluster, group) == (origin.cluster, origin.group):
                logger.warning("removing %s: the changelogs of these tables exist no more on the cluster", other)
                shutil.rmtree(other)
            else:
                logger.warning("%s holds tables of cluster %s; remove it when they are not needed", other, cluster)
    except OSError as error:
        raise StartupRefused(f"cannot use the tables folder {mine}: {error}") from error
    return mine


def _origin_of(folder: Path) -> tuple[str, str]:
    try:
        told = json.loads((folder / ORIGIN_FILE).read_text())
        return str(told["cluster"]), str(told["group"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return "unknown", ""


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
