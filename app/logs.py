"""Logging of worker processes: one line per event, as text or JSON, to standard error."""

from __future__ import annotations

import json
import logging
import sys

from app.settings import WorkerSettings

# Loggers of libraries that write at each start or batch. The project logs what matters of it.
_QUIET = {
    "aiokafka": logging.WARNING,
    "aiokafka.consumer.group_coordinator": logging.WARNING,
    # One warning for each retry while the broker finishes the previous transaction.
    "aiokafka.producer.sender": logging.ERROR,
    "faust": logging.WARNING,
    "mode": logging.WARNING,
    "app.systems.faust.transport": logging.WARNING,
}


class _JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S") + f".{int(record.msecs):03d}",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            # Additional fields of a line: `extra={"fields": {…}}`.
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def quiet_clients() -> None:
    """Silence the Kafka client's loggers for command lines: its failures are raised and printed once.

    `set_up` undoes this.

    The clients log every retry while a broker is unavailable, and every partition of a topic that was just created.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def set_up(settings: WorkerSettings) -> None:
    """Send all logs of this process to standard error in the configured format. Called once, by the command line."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format == "json":
        handler.setFormatter(_JsonLines())
    else:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(settings.log_level.upper())
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(logging.NOTSET if settings.log_level == "debug" else level)
