"""The limit on open files of this process, raised as far as the tables need it."""

from __future__ import annotations

import resource
from typing import Final

from app.errors import StartupRefused
from app.settings import Settings

# Of each table file set besides its data files: log, manifest, lock, write-ahead logs and what a compaction writes.
_BESIDES_EACH: Final = 16
# Everything else: at 8 partitions 16 transactional producers with a few connections each, the other Kafka clients, 36
# connections to the store, models, the health server, the interpreter's own.
_BESIDES_ALL: Final = 512


def files_needed(settings: Settings, tables: int) -> int:
    """Return how many files a worker with `tables` tables, alone on all partitions, may hold open at once."""
    return tables * settings.kafka.partitions * (settings.tables.max_open_files + _BESIDES_EACH) + _BESIDES_ALL


def allow_open_files(needed: int) -> None:
    """Raise this process's soft limit to `needed`; a higher one stays. Raises StartupRefused when that is not allowed.

    RocksDB counts on what it was promised: past the limit its writes fail in the middle of a day.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError) as error:
        raise StartupRefused(
            f"this worker may need {needed} open files and the hard limit is {hard}; raise it (`ulimit -Hn`, "
            "LimitNOFILE= of systemd, ulimits: of Compose) or lower SIGHTLINE_TABLES_MAX_OPEN_FILES"
        ) from error
