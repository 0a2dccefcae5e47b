"""Leases of loopback ports: a port stays reserved while its lease lives, even between a server's end and restart."""

from __future__ import annotations

import fcntl
import os
import random
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from app.errors import StartupRefused

HOST: Final = "127.0.0.1"
# Below Linux's ephemeral ports (from 32768), which the kernel assigns to outgoing connections.
_LEASABLE: Final = range(20_000, 32_000)


@dataclass(slots=True)
class PortLease:
    """Port that no other lease holder on this machine gets until `release`."""

    port: int
    _lock: IO[str]

    def release(self) -> None:
        """Release the port. Idempotent."""
        self._lock.close()


def lease_port(wanted: int | None = None, purpose: str = "server") -> PortLease:
    """Return a lease of `wanted`, or of any free port. Raises StartupRefused if it is in use."""
    if wanted is not None:
        lease = _try_lease(wanted)
        if lease is None:
            raise StartupRefused(
                f"port {wanted} for {purpose} is in use; stop what listens there or choose another one"
            )
        return lease
    # Random only to spread: two stacks that start at the same time should not try the same ports in the same order.
    for port in random.sample(_LEASABLE, 200):
        lease = _try_lease(port)
        if lease is not None:
            return lease
    raise StartupRefused(f"no free port between {_LEASABLE.start} and {_LEASABLE.stop} for {purpose}")


def _try_lease(port: int) -> PortLease | None:
    folder = Path(tempfile.gettempdir()) / f"sightline-ports-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    lock = (folder / str(port)).open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, port))
    except OSError:
        lock.close()
        return None
    return PortLease(port, lock)
