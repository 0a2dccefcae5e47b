"""What is said of a server that does not answer: which, why, and what to do about it. And that it is said once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


def unreachable(what: str, where: str, variable: str, error: BaseException) -> str:
    """Return the sentence; `variable` is the setting that names the server."""
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return (
        f"{what} at {where} does not answer ({reason}); start it (on this machine: `./sightline stack up`), or name "
        f"another in {variable}"
    )


def kafka_unreachable(bootstrap: str, error: BaseException) -> str:
    """Return the sentence for a broker."""
    return unreachable("Kafka", bootstrap, "SIGHTLINE_KAFKA_BOOTSTRAP", error)


class _Hush:
    """Several may keep it at once; the level comes back with the last of them."""

    def __init__(self) -> None:
        self.kept_by = 0
        self.level = logging.NOTSET


_hush = _Hush()


@contextmanager
def said_once() -> Iterator[None]:
    """Keep the Kafka client from logging what is raised as one sentence: it logs an ERROR for each broker and try.

    What else in the process uses the client is silent meanwhile, so only for steps of a moment.
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
