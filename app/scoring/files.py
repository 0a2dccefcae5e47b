"""The engine on files and on objects of a bucket, without a broker: what `./sightline score` does.

A folder of anything never ends it early: what cannot be read is a row that says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import stat
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from app.domain.contents import reason_codes
from app.domain.images import Rejection, RejectReason
from app.domain.outcomes import GONE, REJECTED, SCORED, missing_reason
from app.domain.places import parse_place
from app.domain.policy import Policy, Subject, evaluate, may_be_published, published
from app.errors import BadReference, ConfigurationError, Retryable
from app.inference.budget import Budget, Ticket
from app.inference.decoding.pool import INPUT_BYTES
from app.inference.engine import Engine, EngineTimings
from app.ports.objects import FetchedObject, ObjectRef, ObjectStore
from app.settings import Settings
from schemas.records import ModelScores, Rendition, RuleMatch

# Reasons that only files on this machine can have, beside those of docs/images.md.
UNREADABLE: Final = "unreadable"
NOT_A_FILE: Final = "not_a_file"
S3_SCHEME: Final = "s3://"


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to score: a path, or `s3://bucket/key` as it was listed. `problem`: why it is neither."""

    name: str
    path: Path | None = None
    ref: ObjectRef | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class FileScore:
    """What became of one source. `content` is kept only where the caller asked for it (thumbnails)."""

    name: str
    outcome: str
    reason: str
    detail: str
    sha256: str | None
    format: str
    width: int
    height: int
    size_bytes: int
    scores: tuple[ModelScores, ...]
    reasons: tuple[str, ...]
    action: str
    flags: tuple[RuleMatch, ...]
    timings: EngineTimings
    content: bytes | None = None
    frames: int = 0
    truncated: bool = False
    renditions: tuple[Rendition, ...] = ()
    publishable: bool = False


def files_below(path: Path) -> Iterator[Source]:
    """Yield every entry at or below `path` that is not a folder, by name; links to folders are not followed.

    Never raises: an entry or a folder that cannot be looked at is a source with its problem.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        yield Source(str(path), problem=f"{UNREADABLE}: {error.strerror or error}")
        return
    if stat.S_ISREG(mode):
        yield Source(str(path), path=path)
    elif not stat.S_ISDIR(mode):
        yield Source(str(path), problem=f"{NOT_A_FILE}: {_kind(mode)}")
    else:
        yield from _folder(path)


def _folder(top: Path) -> Iterator[Source]:
    # A stack of its own instead of recursion: depth is bounded by the disk alone.
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as found:
                entries = sorted(found, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            yield Source(str(folder), problem=f"{UNREADABLE}: {error.strerror or error}")
            continue
        folders = []
        for entry in entries:
            path = Path(entry.path)
            try:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(path)
                elif entry.is_symlink() and path.is_dir():
                    yield Source(str(path), problem=f"{NOT_A_FILE}: a link to a folder")
                else:
                    yield from files_below(path)
            except OSError as error:
                yield Source(str(path), problem=f"{UNREADABLE}: {error.strerror or error}")
        waiting.extend(reversed(folders))


def _kind(mode: int) -> str:
    tests = (
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a device"),
        (stat.S_ISBLK, "a disk"),
    )
    return next((name for test, name in tests if test(mode)), "no regular file")


async def sources(targets: Sequence[str], store: ObjectStore | None) -> AsyncIterator[Source]:
    """Yield the sources of all targets in turn: paths, folders, `s3://bucket/prefix`.

    Raises Retryable when a bucket cannot be listed.
    """
    for target in targets:
        if not target.startswith(S3_SCHEME):
            for source in files_below(Path(target)):
                yield source
            continue
        bucket, prefix = parse_place(target)
        if store is None:
            raise ConfigurationError(f"{target}: there is no object store to read it from")
        async with aclosing(store.list(bucket, prefix)) as rows:  # type: ignore[type-var]  # an async generator in truth
            async for row in rows:
                ref = ObjectRef(bucket, row.key, None, row.etag, row.size_bytes)
                yield Source(f"{S3_SCHEME}{bucket}/{row.key}", ref=ref)


class FileScorer:
    """Scores sources with one engine; at most `max_in_flight` of them and their bytes are in hand."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        *,
        policy: Policy | None,
        store: ObjectStore | None,
        models: frozenset[str] | None = None,
        keep_content: bool = False,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._policy = policy
        self._store = store
        self._models = models
        self._keep_content = keep_content
        self._bytes = Budget(settings.engine.max_bytes_in_flight)
        self._names = tuple(engine.registry.versions())
        self._advice = engine.registry.advice()

    async def run(self, found: AsyncIterator[Source]) -> AsyncGenerator[FileScore]:
        """Yield one result for each source, in their order. Raises only Fatal, and Retryable while listing."""
        window: deque[asyncio.Task[FileScore]] = deque()
        try:
            async for source in found:
                window.append(asyncio.create_task(self.score(source)))
                if len(window) >= self._settings.engine.max_in_flight:
                    yield await window.popleft()
                while window and window[0].done():
                    yield window.popleft().result()
                # A folder is walked without waiting for anything; the others need a turn too.
                await asyncio.sleep(0)
            while window:
                yield await window.popleft()
        finally:
            for task in window:
                task.cancel()

    async def score(self, source: Source) -> FileScore:
        """Return what becomes of one source. Raises only Fatal."""
        if source.problem:
            reason, _, detail = source.problem.partition(": ")
            return self._nothing(source, REJECTED, reason, detail)
        size = source.ref.size_bytes if source.ref is not None else None
        limit = self._settings.limits.max_bytes
        held = await self._bytes.take(min(size or limit, limit) + INPUT_BYTES, Ticket())
        try:
            content = await self._read(source)
            if isinstance(content, FileScore):
                return content
            self._bytes.give(max(0, held - len(content) - INPUT_BYTES))
            held = min(held, len(content) + INPUT_BYTES)
            return await self._score(source, content)
        finally:
            self._bytes.give(held)

    async def _read(self, source: Source) -> bytes | FileScore:
        limit = self._settings.limits.max_bytes
        if source.path is not None:
            try:
                content = await asyncio.to_thread(_read_file, source.path, limit)
            except FileNotFoundError:
                return self._nothing(source, GONE, "deleted", "the file vanished")
            except (OSError, ValueError) as error:
                return self._nothing(source, REJECTED, UNREADABLE, str(error))
            if isinstance(content, int):
                detail = f"{content} bytes, at most {limit}"
                return self._nothing(source, REJECTED, RejectReason.TOO_MANY_BYTES.value, detail)
            return content
        if self._store is None or source.ref is None:
            raise ConfigurationError(f"{source.name}: no object store is set up")
        try:
            found = await self._store.fetch(source.ref, max_bytes=limit)
        except (Retryable, BadReference) as error:
            return self._nothing(source, REJECTED, UNREADABLE, str(error))
        if isinstance(found, FetchedObject):
            return found.body
        why = missing_reason(found.reason)
        if why is None:
            return self._nothing(source, GONE, "deleted", found.detail)
        return self._nothing(source, REJECTED, why.value, found.detail)

    async def _score(self, source: Source, content: bytes) -> FileScore:
        digest = await asyncio.to_thread(lambda: hashlib.sha256(content).hexdigest())
        found = await self._engine.score(content, wanted=self._models)
        if isinstance(found, Rejection):
            rejected = replace(
                self._nothing(source, REJECTED, found.reason.value, found.detail),
                sha256=digest,
                format=found.format,
                width=found.width,
                height=found.height,
                size_bytes=len(content),
            )
            return rejected
        scores = tuple(found.scores[name] for name in self._names if name in found.scores)
        frames = max(1, found.header.frames) if found.header else 1
        action, flags = self._judge(Subject(SCORED, "", scores, frames, found.truncated, found.renditions))
        return FileScore(
            name=source.name,
            outcome=SCORED,
            reason="",
            detail="",
            sha256=digest,
            format=found.header.format.value if found.header else "",
            width=found.header.width if found.header else 0,
            height=found.header.height if found.header else 0,
            size_bytes=len(content),
            scores=scores,
            reasons=reason_codes(scores, self._advice, truncated=found.truncated),
            action=action,
            flags=flags,
            timings=found.timings,
            content=content if self._keep_content else None,
            frames=frames,
            truncated=found.truncated,
            renditions=found.renditions,
            publishable=self._policy is not None and may_be_published(SCORED, action),
        )

    def _nothing(self, source: Source, outcome: str, reason: str, detail: str) -> FileScore:
        action, flags = self._judge(Subject(outcome, reason, ()))
        timings = EngineTimings(0, 0, 0)
        return FileScore(source.name, outcome, reason, detail, None, "", 0, 0, 0, (), (), action, flags, timings)

    def _judge(self, subject: Subject) -> tuple[str, tuple[RuleMatch, ...]]:
        if self._policy is None:
            return "", ()
        decision = evaluate(self._policy, subject)
        return decision.action, published(decision)


def _read_file(path: Path, limit: int) -> bytes | int:
    """Return the file, or its size when that is beyond `limit` (it is then not read on)."""
    # Without O_NONBLOCK a pipe that took the file's place meanwhile would hold the thread for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0))
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{NOT_A_FILE}: {_kind(found.st_mode)}")
        if found.st_size > limit:
            return found.st_size
        content = file.read(limit + 1)
        return content if len(content) <= limit else max(len(content), os.fstat(file.fileno()).st_size)
