"""Parent's side of one decoding child: starts it, sends it one content at a time, ends it."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
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
    read_answer,
    write_job,
)
from app.inference.model_input import ModelInput
from app.settings import ROOT

logger = logging.getLogger(__name__)
_KEPT_HEAP_BYTES: Final = 16 * 1024 * 1024
# The whole environment of a child: no credentials, and one thread for each library that would start more.
_ENVIRONMENT: Final = {
    "PATH": "/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "1",
    # By default glibc returns the buffers of each picture to the kernel; the page faults for the next picture take a
    # tenth of decoding. Buffers up to this size are kept; those of large pictures are returned.
    "MALLOC_MMAP_THRESHOLD_": str(_KEPT_HEAP_BYTES),
    "MALLOC_TRIM_THRESHOLD_": str(_KEPT_HEAP_BYTES),
}
WORK: Final = "app.inference.decoding.work:DecodeWork"
_START: Final = (
    "import sys; sys.path.insert(0, sys.argv[1]); "
    "from app.inference.decoding.child_start import main; main(int(sys.argv[2]), int(sys.argv[3]))"
)
# A start takes half a second; a machine under load may need ten times that.
_START_SECONDS: Final = 30.0
# Copying more than this into shared memory would hold up the event loop for more than a millisecond.
_COPY_INLINE_BYTES: Final = 2 * 1024 * 1024
_LAST_WORDS_BYTES: Final = 2000
_REAP_SECONDS: Final = 2.0
# Shared memory that a child keeps after a content. The rest goes back to the system.
_KEPT_BYTES: Final = 4 * 1024 * 1024

Ask = Callable[[int], Awaitable[bool]]
"""Called with a number of bytes; returns whether they may be allocated."""


Hold = Callable[[int], Awaitable[None]]
"""Called with the number of bytes of inputs before they are copied; returns when the budget allows them."""


class ChildDied(Exception):
    """Error: a decoding child ended before it answered, or gave an invalid answer.

    Operator: nothing: the picture is rejected as `decoder_crashed`, and another child takes its place.
    """


class ChildTimeout(Exception):
    """Error: a decoding child passed the deadline and was killed.

    Operator: nothing: the picture is rejected as `decode_timeout`, and another child takes its place.
    """


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """Start parameters of every child of a pool.

    `shared_bytes`: size of its shared memory. `work` names the class that executes the jobs, as module:name; tests of
    the pool use one that misbehaves.
    """

    limits: ImageLimits
    memory_bytes: int
    cpu_seconds: float
    shared_bytes: int
    work: str = WORK


@dataclass(frozen=True, slots=True, eq=False)
class PreparedImage:
    """A Prepared with the pixels: `inputs[rendition][spec]`."""

    prepared: Prepared
    inputs: tuple[tuple[ModelInput, ...], ...]


Result = Rejection | PreparedImage | bytes
"""Result of a job: a rejection, the inputs of models, or a JPEG."""


class ChildProcess:
    """One child. Belongs to one event loop; one job at a time."""

    def __init__(self, plan: ChildPlan) -> None:
        self._plan = plan
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._shared: mmap.mmap | None = None
        self._log = -1
        self.network = ""

    async def start(self) -> None:
        """Return when the child can decode. Raises ChildDied."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        self._socket = ours
        memory = os.memfd_create("pixels", os.MFD_CLOEXEC)
        self._log = os.memfd_create("errors", os.MFD_CLOEXEC)
        try:
            os.ftruncate(memory, self._plan.shared_bytes)
            self._shared = mmap.mmap(memory, self._plan.shared_bytes)
            # Takes 2 ms. Not on another thread: the child ends with the thread that started it
            # (sandbox.die_with_parent).
            self._process = _spawn(theirs.fileno(), memory, self._log)
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
        """Process id; 0 before the start."""
        return self._process.pid if self._process is not None else 0

    @property
    def alive(self) -> bool:
        """Return whether the process was running at the last check."""
        return self._process is not None and self._process.poll() is None

    async def run(self, content: bytes, job: Job, seconds: float, ask: Ask, hold: Hold) -> Result:
        """Return the result of `job` on `content`. `hold` is awaited before inputs are copied out.

        `seconds` bounds the work without the waits for `ask` and `hold`. Raises ChildDied or ChildTimeout; the child is
        unusable afterwards. Do not cancel.
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
                await hold(answer.input_bytes)
                result = inputs_of(answer, shared)
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
            if "granted" in message:
                # A child that holds memory and waits for more could cause a deadlock.
                raise ChildDied("the child asked twice for memory")
            message = {"granted": await ask(need)}

    def _give_back(self, size: int, answer: Rejection | Prepared | Encoded) -> None:
        """Return the memory of a large content to the system. The memory of small ones is reused."""
        used = max(size, answer.input_bytes) if isinstance(answer, Prepared) else size
        if used > _KEPT_BYTES and self._shared is not None:
            self._shared.madvise(mmap.MADV_REMOVE, _KEPT_BYTES, self._plan.shared_bytes - _KEPT_BYTES)

    async def _send(self, message: Mapping[str, Any]) -> None:
        assert self._socket is not None
        try:
            data = json.dumps(message, separators=(",", ":")).encode()
            await asyncio.get_running_loop().sock_sendall(self._socket, data)
        except OSError as error:
            raise await self._died() from error

    async def _receive(self) -> Mapping[str, Any]:
        assert self._socket is not None
        try:
            data = await asyncio.get_running_loop().sock_recv(self._socket, MAX_MESSAGE_BYTES)
            answer = json.loads(data) if data else None
        except (OSError, ValueError, RecursionError) as error:
            raise ChildDied(f"the child gave an answer that is none: {error}") from error
        if not isinstance(answer, dict):
            raise await self._died()
        return answer

    async def _died(self) -> ChildDied:
        """Return an error that describes how the child ended."""
        cause = "the decoder's process closed its socket"
        if self._process is not None:
            try:
                # The socket closes slightly before the process can be reaped.
                status = await asyncio.to_thread(self._process.wait, _REAP_SECONDS)
                name = signal.Signals(-status).name if status < 0 else f"status {status}"
                cause = f"the decoder's process was ended by {name}" if status < 0 else f"the decoder ended with {name}"
            except subprocess.TimeoutExpired:
                pass
        size = os.fstat(self._log).st_size
        words = os.pread(self._log, _LAST_WORDS_BYTES, max(0, size - _LAST_WORDS_BYTES)).decode("utf-8", "replace")
        logger.warning("%s; its last words: %s", cause, words or "none")
        return ChildDied(cause)

    async def end(self) -> None:
        """Kill the child and reap it. Idempotent. Never blocks; the kernel may take 0.1 s to free the memory."""
        process, self._process = self._process, None
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        self._shared = None
        if self._log >= 0:
            os.close(self._log)
            self._log = -1
        if process is not None:
            process.kill()
            await asyncio.to_thread(process.wait)


def inputs_of(answer: Prepared, shared: mmap.mmap | bytearray) -> PreparedImage:
    """Return a copy of the inputs in `shared`, which the next picture will overwrite."""
    rows: list[list[ModelInput]] = [[] for _ in answer.renditions]
    for block in answer.blocks:
        end = block.offset + block.pixel_bytes
        pixels = np.frombuffer(bytes(shared[block.offset : end]), np.uint8).reshape(block.height, block.width, 3)
        statistics = np.frombuffer(bytes(shared[end : block.end]), np.float32) if block.statistics else None
        rows[block.rendition].append(ModelInput(pixels, statistics))
    return PreparedImage(answer, tuple(tuple(row) for row in rows))


def _spawn(socket_fd: int, memory_fd: int, log_fd: int) -> subprocess.Popen[bytes]:
    arguments = [sys.executable, "-I", "-c", _START, str(ROOT), str(socket_fd), str(memory_fd)]
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=log_fd,
        env=_ENVIRONMENT,
        cwd="/",
        pass_fds=(socket_fd, memory_fd),
        # A new session: Ctrl-C in a terminal reaches only the parent, which ends its children in order.
        start_new_session=True,
    )
