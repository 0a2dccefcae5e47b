"""The end of a process that must not go on: say why, flush, exit. Dying early loses nothing; going on might."""

from __future__ import annotations

import logging
import os
import sys
import threading
from typing import Final

from app.errors import DeadLetterCeiling

logger = logging.getLogger(__name__)
# Any error after which a restart reads again from the last transaction.
EXIT_FAILED: Final = 70
# A restart would go on filling the dead letters: supervisors do not restart after this one.
EXIT_CEILING: Final = 78
_lock = threading.Lock()


def fail_stop(reason: BaseException | str) -> None:
    """Log `reason`, flush all logs and end the process at once, from any thread; the first reason is the one told."""
    _lock.acquire()  # never released: whoever comes second waits for the end
    if isinstance(reason, BaseException):
        logger.critical("%s: %s; the process exits", type(reason).__name__, reason, exc_info=reason)
    else:
        logger.critical("%s; the process exits", reason)
    for each in logging.getLogger().handlers:
        each.flush()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(EXIT_CEILING if isinstance(reason, DeadLetterCeiling) else EXIT_FAILED)
