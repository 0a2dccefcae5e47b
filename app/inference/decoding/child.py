"""Decoding child: receives contents from its parent, one at a time, and answers.

It has no credentials (its environment is empty), no network and bounded memory. It may die at any moment: the parent
then rejects one picture. It inherits only a socket and a piece of shared memory from the parent.
"""

from __future__ import annotations

import importlib
import json
import mmap
import socket
import sys
from collections.abc import Mapping
from typing import Any

from app.domain.images import ImageLimits
from app.inference.decoding import sandbox
from app.inference.decoding.pictures import OverBudget
from app.inference.decoding.protocol import MAX_MESSAGE_BYTES, UNASKED_BYTES, read_job, write_answer
from app.inference.decoding.work import DecodeWork


class Child:
    """Main loop of the child and its state. The constructor loads the decoders."""

    def __init__(self, parent: socket.socket, shared: mmap.mmap, begin: Mapping[str, Any]) -> None:
        self._parent = parent
        self._shared = shared
        module, _, name = begin["work"].partition(":")
        self._work: DecodeWork = getattr(importlib.import_module(module), name)(ImageLimits(**begin["limits"]))
        self._cpu_seconds: float = begin["cpu_seconds"]

    def say(self, message: Mapping[str, Any]) -> None:
        """Send one message to the parent."""
        self._parent.sendall(json.dumps(message, separators=(",", ":")).encode())

    def serve(self) -> None:
        """Answer jobs until the parent closes the socket."""
        while received := self._parent.recv(MAX_MESSAGE_BYTES):
            message = json.loads(received)
            sandbox.limit_cpu(self._cpu_seconds)
            content = bytes(self._shared[: message["size"]])
            self.say(write_answer(self._work.answer(content, read_job(message), self._shared, self._grant)))

    def _grant(self, need_bytes: int) -> None:
        if need_bytes <= UNASKED_BYTES:
            return
        self.say({"need": need_bytes})
        answer = self._parent.recv(MAX_MESSAGE_BYTES)
        if not answer:
            sys.exit()
        if not json.loads(answer)["granted"]:
            raise OverBudget
