"""Messages about a server that does not answer: which server, why, and which setting. Each is logged only once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


def unreachable(what: str, where: str, variable: str, error: BaseException) -> str:
    """Return the message; `variable` is the setting with the server's address."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return (
        f"{what} at {where} does not answer ({reason}); start it (on this machine: `./sightline stack up`), or name "
        f"another in {variable}"
    )


def kafka_unreachable(bootstrap: str, error: BaseException) -> str:
    """Return the message for a broker."""
    return unreachable("Kafka", bootstrap, "SIGHTLINE_KAFKA_BOOTSTRAP", error)


class _Hush:
    """Nested silence of one logger; the last exit restores its level."""

    def __init__(self) -> None:
        self.kept_by = 0
        self.level = logging.NOTSET


_hush = _Hush()


@contextmanager
def said_once() -> Iterator[None]:
    """Silence the Kafka client, which logs an ERROR for each broker and attempt; the caller raises one message.

    Silences all users of the client in this process, so use it only for short steps.
    """
    client = logging.getLogger("aiokafka")
    if not _hush.kept_by:
        _hush.level = client.level
        client.setLevel(logging.CRITICAL)
    _hush.kept_by += 1
    try:
        yield
    finally:
        _hush.kept_by -= 1
        if not _hush.kept_by:
            client.setLevel(_hush.level)
