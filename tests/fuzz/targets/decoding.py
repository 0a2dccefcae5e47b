"""Decoding in a child: it answers in time, lives on, and takes no more memory than the header says."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.domain.headers.layout import Wanted
from app.domain.images import ImageHeader, Rejection, inspect
from app.inference.decoding.pool import image_limits
from app.inference.decoding.process import ChildDied, ChildPlan, ChildProcess, ChildTimeout, PreparedImage, Result
from app.inference.decoding.protocol import Job, PrepareJob, ThumbnailJob
from app.settings import InferenceSettings, LimitSettings
from tests.fuzz.engine import Answer, Broken, Check, Target
from tests.fuzz.images import IMAGES
from tests.fuzz.targets import pictures
from tests.support.toy_models import INPUT, WIDE_INPUT

_SETTINGS: Final = LimitSettings()
_LIMITS: Final = image_limits(_SETTINGS)
_MEMORY_BYTES: Final = InferenceSettings().decode_memory_bytes
_CPU_SECONDS: Final = 2.0
# Renditions, inputs and what Python's allocator keeps: beside the decoder, whose share the header tells.
_BESIDE_BYTES: Final = 32 * 1024 * 1024
_JOBS: Final[tuple[Job, ...]] = (PrepareJob((INPUT, WIDE_INPUT), 32, 5, 1_000_000, 64), ThumbnailJob(320, 80))


class _Decoding:
    """One child, replaced when it ended, and what is measured of it."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._child: ChildProcess | None = None
        self._need = 0

    def check(self, content: bytes) -> Answer:
        child = self._child or self._started()
        # Each content is decoded by one of the jobs, always the same one.
        job = _JOBS[sum(content) % len(_JOBS)]
        self._need = 0
        _forget_peak(child.pid)
        held, cpu = _memory(child.pid, "VmRSS"), _cpu_seconds(child.pid)
        try:
            result = self._runner.run(child.run(content, job, _SETTINGS.decode_seconds, self._ask, _hold))
        except (ChildDied, ChildTimeout) as error:
            self.close()
            raise Broken(f"{type(error).__name__}: {error}") from error
        used, grown = _cpu_seconds(child.pid) - cpu, _memory(child.pid, "VmHWM") - held
        bound = max(_decoder_bytes(content, job), self._need)
        if used > _CPU_SECONDS:
            raise Broken(f"slow: {used:.1f} s of CPU time in the child")
        if grown > bound + _BESIDE_BYTES:
            raise Broken(f"the child grew by {grown} bytes, at most {bound} are its decoder's")
        figures = {"child_cpu_seconds": used, "grown_bytes": float(grown), "beyond_bytes": float(grown - bound)}
        return Answer(_signature(result), figures)

    def close(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            self._runner.run(child.end())

    def _started(self) -> ChildProcess:
        shared = max(_SETTINGS.max_bytes, _SETTINGS.max_renditions * 1024 * 1024)
        self._child = ChildProcess(ChildPlan(_LIMITS, _MEMORY_BYTES, _SETTINGS.decode_seconds, shared))
        self._runner.run(self._child.start())
        return self._child

    async def _ask(self, need_bytes: int) -> bool:
        self._need += need_bytes
        return self._need <= _MEMORY_BYTES


async def _hold(_: int) -> None:
    """Give room at once: nothing else runs."""


def _decoder_bytes(content: bytes, job: Job) -> int:
    match job:
        case PrepareJob():
            wanted = Wanted(_LIMITS.max_frames, 2 * job.smallest_side, job.frames)
        case ThumbnailJob():
            wanted = Wanted(_LIMITS.max_frames, job.side, 1)
    header = inspect(content, _LIMITS, wanted)
    return header.decoder_bytes if isinstance(header, ImageHeader) else 0


def _signature(result: Result) -> str:
    match result:
        case Rejection():
            return f"{result.format} {result.reason} {result.detail}"
        case PreparedImage(answer, _):
            sides = f"{answer.header.width.bit_length()} {answer.header.height.bit_length()}"
            return (
                f"{answer.header.format} {answer.truncated} {answer.header.frames > 1} {len(answer.renditions) > 1} "
                + ("".join(chr(96 + int(side)) for side in sides.split()))
            )
        case _:
            return "a picture"


def _forget_peak(pid: int) -> None:
    """Have the kernel begin a new VmHWM (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def _memory(pid: int, name: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    return 0


def _cpu_seconds(pid: int) -> float:
    # The name of the program, in brackets, may hold spaces.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def _open() -> Iterator[Check]:
    with asyncio.Runner() as runner:
        decoding = _Decoding(runner)
        try:
            yield decoding.check
        finally:
            decoding.close()


# Its memory is bounded by the child's own limit, which a limit of this process would lower.
DECODING: Final = Target("decoding", pictures.seeds, _open, IMAGES, cpu_seconds=10.0, memory_bytes=0)
