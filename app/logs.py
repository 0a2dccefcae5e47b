"""Logging of worker processes: one line per event, as text or JSON, to standard error."""

from __future__ import annotations

import json
import logging
import sys

from app.settings import WorkerSettings

# Said at each start and each batch by the libraries; what matters of it is said by us.
_QUIET = {
    "aiokafka": logging.WARNING,
    "aiokafka.consumer.group_coordinator": logging.WARNING,
    # Each "not yet" of a broker that is busy with the transaction before.
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
            # What a line says field by field besides: `extra={"fields": {…}}`.
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line)


def quiet_clients() -> None:
    """Keep the Kafka client's own lines off a command line: its failures are raised, and said once. Undone by `set_up`.

    It writes a line for every try while a broker is away, and for every partition of a topic that is just made.
    """
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


def set_up(settings: WorkerSettings) -> None:
    """Send all logs of this process to standard error in the form of the settings. Called once, by the command line."""
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
