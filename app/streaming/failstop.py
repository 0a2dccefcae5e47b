"""Immediate end of a process that must not continue: log the reason, flush, exit. An early exit loses nothing."""

from __future__ import annotations

import logging
import os
import sys
import threading

from app.errors import DeadLetterCeiling
from app.exit_codes import ExitCode

logger = logging.getLogger(__name__)
_lock = threading.Lock()


def fail_stop(reason: BaseException | str) -> None:
    """Log `reason`, flush all logs and end the process at once. Callable from any thread; only the first call logs."""
    _lock.acquire()  # never released: every other caller waits for the exit
    if isinstance(reason, BaseException):
        logger.critical("%s: %s; the process exits", type(reason).__name__, reason, exc_info=reason)
    else:
        logger.critical("%s; the process exits", reason)
    for each in logging.getLogger().handlers:
        each.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ExitCode.CEILING if isinstance(reason, DeadLetterCeiling) else ExitCode.FAILED)
