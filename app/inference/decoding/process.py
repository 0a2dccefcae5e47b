"""The parent's side of one decoding child: starts it, gives it one content at a time, ends it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from app.domain.images import ImageLimits, Rejection
from app.inference.decoding.protocol import (
    MAX_MESSAGE_BYTES,
    Encoded,
    Job,
    Prepared,
    PrepareJob,
    read_answer,
    write_job,
)
from app.inference.runtime import ModelInput
from app.settings import ROOT
from schemas.records import Rendition

# All that a child's environment holds: no credential, and one thread for each library that would start more.
_ENVIRONMENT: Final = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
}
_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from app.inference.decoding.child_start import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
# A start takes half a second; a machine under load may need ten times that.
_START_SECONDS: Final = 30.0
# Copying more than this into shared memory would hold up the event loop for more than a millisecond.
_COPY_INLINE_BYTES: Final = 2 * 1024 * 1024
# What one content left in shared memory is given back to the system beyond this.
_KEPT_BYTES: Final = 4 * 1024 * 1024

Ask = Callable[[int], Awaitable[bool]]
"""Asked for a number of bytes; returns whether they may be allocated."""


class ChildDied(Exception):
    """A decoding child ended before it answered, or said what no honest child says.

    Operator: nothing: the picture is rejected as `decoder_crashed`, and another child takes its place.
    """


class ChildTimeout(Exception):
    """A decoding child passed the deadline and was killed.

    Operator: nothing: the picture is rejected as `decode_timeout`, and another child takes its place.
    """


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """What every child of a pool is told at its start. `shared_bytes`: size of its piece of shared memory."""

    limits: ImageLimits
    memory_bytes: int
    cpu_seconds: float
    shared_bytes: int


@dataclass(frozen=True, slots=True, eq=False)
class PreparedImage:
    """A Prepared with its pixels: `inputs[rendition][spec]`."""

    prepared: Prepared
    renditions: tuple[Rendition, ...]
    inputs: tuple[tuple[ModelInput, ...], ...]


Result = Rejection | PreparedImage | bytes
"""What a job gives: a rejection, the inputs of models, or a JPEG."""


class ChildProcess:
    """One child. Belongs to one event loop; one job at a time."""

    def __init__(self, plan: ChildPlan) -> None:
        self._plan = plan
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._shared: mmap.mmap | None = None
        self.network = ""

    async def start(self) -> None:
        """Return when the child can decode. Raises ChildDied."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._socket = ours
        memory = os.memfd_create("pixels", os.MFD_CLOEXEC)
        try:
            os.ftruncate(memory, self._plan.shared_bytes)
            self._shared = mmap.mmap(memory, self._plan.shared_bytes)
            # Not on another thread, whose end would end the child (sandbox.die_with_parent); 2 ms.
            self._process = _spawn(theirs.fileno(), memory)
        finally:
            theirs.close()
            os.close(memory)
        await self._send(dataclasses.asdict(self._plan))
        try:
            async with asyncio.timeout(_START_SECONDS):
                self.network = str((await self._receive())["network"])
        except (TimeoutError, KeyError) as error:
            raise ChildDied("the child did not start") from error

    @property
    def pid(self) -> int:
        """The process id; 0 before the start."""
        return self._process.pid if self._process is not None else 0

    async def run(self, content: bytes, job: Job, seconds: float, ask: Ask) -> Result:
        """Return what `job` gives on `content`.

        `seconds` bound the work, not the wait for `ask`. Raises ChildDied or ChildTimeout; the child is of no use then.
        Not to be cancelled.
        """
        shared = self._shared
        assert shared is not None
        if len(content) > self._plan.shared_bytes:
            raise ValueError(f"{len(content)} bytes do not fit into {self._plan.shared_bytes}")
        if len(content) <= _COPY_INLINE_BYTES:
            shared[: len(content)] = content
        else:
            await asyncio.to_thread(shared.__setitem__, slice(0, len(content)), content)
        message = await self._exchange(write_job(len(content), job), seconds, ask)
        try:
            answer = read_answer(message, job, self._plan.shared_bytes)
        except (ValueError, TypeError, KeyError) as error:
            raise ChildDied(f"the child gave an impossible answer: {error}") from error
        match answer:
            case Rejection():
                result: Result = answer
            case Encoded():
                result = shared[: answer.jpeg_bytes]
            case Prepared():
                result = self._inputs(answer, job)
        self._give_back(len(content), answer)
        return result

    async def _exchange(self, message: Mapping[str, Any], seconds: float, ask: Ask) -> Mapping[str, Any]:
        loop = asyncio.get_running_loop()
        left = seconds
        while True:
            began = loop.time()
            try:
                async with asyncio.timeout(left):
                    await self._send(message)
                    answer = await self._receive()
            except TimeoutError as error:
                raise ChildTimeout(f"not decoded within {seconds:g} s") from error
            left -= loop.time() - began
            if "need" not in answer:
                return answer
            need = answer["need"]
            if type(need) is not int or need < 0:
                raise ChildDied("the child asked for an impossible amount of memory")
            message = {"granted": await ask(need)}

    def _inputs(self, answer: Prepared, job: Job) -> PreparedImage:
        assert isinstance(job, PrepareJob)
        shared = self._shared
        assert shared is not None
        rows: list[list[ModelInput]] = [[] for _ in answer.renditions]
        for block in answer.blocks:
            end = block.offset + block.pixel_bytes
            # Copied: the child writes the next picture over it.
            pixels = np.frombuffer(shared[block.offset : end], np.uint8).reshape(block.height, block.width, 3)
            statistics = np.frombuffer(shared[end : end + 4 * block.statistics], np.float32)
            rows[block.rendition].append(ModelInput(pixels, statistics if block.statistics else None))
        return PreparedImage(answer, answer.renditions, tuple(tuple(row) for row in rows))

    def _give_back(self, size: int, answer: Rejection | Prepared | Encoded) -> None:
        """Return the memory of a large content to the system; small ones reuse theirs."""
        used = size
        if isinstance(answer, Prepared) and answer.blocks:
            last = answer.blocks[-1]
            used = max(used, last.offset + last.pixel_bytes + 4 * last.statistics)
        if used > _KEPT_BYTES and self._shared is not None:
            self._shared.madvise(mmap.MADV_REMOVE, _KEPT_BYTES, self._plan.shared_bytes - _KEPT_BYTES)

    async def _send(self, message: Mapping[str, Any]) -> None:
        assert self._socket is not None
        try:
            data = json.dumps(message, separators=(",", ":")).encode()
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except OSError as error:
            raise ChildDied(self._cause()) from error

    async def _receive(self) -> Mapping[str, Any]:
        assert self._socket is not None
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, MAX_MESSAGE_BYTES)
            answer = json.loads(data) if data else None
        except (OSError, ValueError, RecursionError) as error:
            raise ChildDied(f"{self._cause()}: {error}") from error
        if not isinstance(answer, dict):
            raise ChildDied(self._cause())
        return answer

    def _cause(self) -> str:
        status = self._process.poll() if self._process is not None else None
        if status is None:
            return "the decoder's process closed its socket"
        if status < 0:
            return f"the decoder's process was ended by {signal.Signals(-status).name}"
        return f"the decoder's process ended with status {status}"

    async def end(self) -> None:
        """Kill the child and reap it. Idempotent."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._shared = None


def _spawn(socket_fd: int, memory_fd: int) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-I", "-c", _START, str(ROOT), str(socket_fd), str(memory_fd)]
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=_ENVIRONMENT,
        cwd="/",
        pass_fds=(socket_fd, memory_fd),
        # Of its own session: Ctrl-C in a terminal is for the parent, which ends its children in order.
        start_new_session=True,
    )
