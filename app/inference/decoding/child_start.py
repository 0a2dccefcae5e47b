"""Entry point of a decoding child: the sandbox first, everything that needs a thread or a file afterwards."""

from __future__ import annotations

import json
import mmap
import os
import socket
from typing import Final

from app.inference.decoding import sandbox

_NICENESS: Final = 5


def main(socket_fd: int, memory_fd: int) -> None:
    """Serve until the parent closes the socket.

    The first message from the parent contains the limits; the first answer names the active layers of the sandbox.
    """
    sandbox.die_with_parent()
    # Inference uses all cores and takes longer than decoding. Its threads spin while they wait for each other, so a
    # decoder that occupies the core of one thread may slow down a second one.
    os.nice(_NICENESS)
    jailed = sandbox.enter_network_jail()
    # Decoders and their threads are loaded after the jail, which only a single-threaded process can enter, and before
    # the limits, which apply to later allocations.
    from app.inference.decoding.child import Child
    from app.inference.decoding.protocol import MAX_MESSAGE_BYTES

    parent = socket.socket(fileno=socket_fd)
    begin = json.loads(parent.recv(MAX_MESSAGE_BYTES))
    child = Child(parent, mmap.mmap(memory_fd, begin["shared_bytes"]), begin)
    sandbox.limit_resources(begin["memory_bytes"])
    filtered = sandbox.refuse_calls()
    child.say({"network": "none" if jailed else "refused" if filtered else "open"})
    child.serve()
