"""Answers of a decoding child that a hostile file took over: refused, or safe to use."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from app.domain.images import ImageFormat, ImageHeader, Rejection, RejectReason
from app.inference.decoding.process import inputs_of
from app.inference.decoding.protocol import (
    MAX_MESSAGE_BYTES,
    Block,
    Encoded,
    Job,
    Prepared,
    PrepareJob,
    ThumbnailJob,
    read_answer,
    read_job,
    write_answer,
    write_job,
)
from app.inference.decoding.protocol import (
    Answer as ChildAnswer,
)
from schemas.records import Rendition
from tests.fuzz.engine import Answer, Broken, Check, Target
from tests.fuzz.texts import JSON
from tests.support.toy_models import INPUT, WIDE_INPUT

_SHARED_BYTES: Final = 64 * 1024
_PREPARE: Final = PrepareJob((INPUT, WIDE_INPUT), 32, 5, 0, 16)
_JOBS: Final[tuple[Job, ...]] = (_PREPARE, ThumbnailJob(32, 80))
# Exceptions that a reader of untrusted values may raise. The caller treats them as an invalid answer of the child.
_REFUSED: Final = (ValueError, TypeError, KeyError)


def check(content: bytes) -> Answer:
    """Check the promises of `read_answer` and `read_job` on one message, read as the parent reads it."""
    try:
        message = json.loads(content)
    except (ValueError, RecursionError) as error:
        return Answer(f"none {type(error).__name__}")
    if not isinstance(message, dict):
        return Answer("none")
    try:
        read_job(message)
        seen = ["a job"]
    except _REFUSED:
        seen = []
    return Answer(" ".join([*seen, *(_checked(message, job) for job in _JOBS)]))


def _checked(message: dict[str, Any], job: Job) -> str:
    try:
        answer = read_answer(message, job, _SHARED_BYTES)
    except _REFUSED as error:
        # The end of the words alone: the value that was refused stands before it.
        return f"{type(error).__name__} {error}"[-24:]
    match answer:
        case Prepared():
            inputs = inputs_of(answer, bytearray(_SHARED_BYTES)).inputs
            if not inputs or any(len(row) != len(_PREPARE.specs) for row in inputs):
                raise Broken("not one input for each geometry")
            if answer.input_bytes > _SHARED_BYTES:
                raise Broken("inputs outside the shared memory")
        case Encoded(jpeg_bytes):
            if not 0 <= jpeg_bytes <= _SHARED_BYTES:
                raise Broken("a picture outside the shared memory")
        case Rejection():
            answer.detail.encode()
    if read_answer(json.loads(json.dumps(write_answer(answer))), job, _SHARED_BYTES) != answer:
        raise Broken("written and read again, it is another answer")
    return type(answer).__name__


def _seeds(_: int) -> list[bytes]:
    whole = Rendition(0, 0.0, 0.0, 1.0, 1.0, "")
    part = Rendition(1, 0.25, 0.0, 0.75, 1.0, "dark")
    header = ImageHeader(ImageFormat.GIF, 64, 48, 2, 123_456)
    blocks = tuple(
        Block(rendition, spec, 4096 * (2 * rendition + spec), *sides)
        for rendition in range(2)
        for spec, sides in enumerate(((8, 8, 0), (32, 32, 4)))
    )
    answers: tuple[ChildAnswer, ...] = (
        Prepared(header, True, (whole, part), blocks),
        Encoded(1000),
        Rejection(RejectReason.UNDECODABLE, "no decoder accepts it", "gif", 64, 48),
        Rejection(RejectReason.EMPTY, "the object holds no bytes"),
    )
    messages = [write_answer(answer) for answer in answers] + [write_job(1000, job) for job in _JOBS]
    return [json.dumps(message).encode() for message in messages]


@contextmanager
def _open() -> Iterator[Check]:
    yield check


PROTOCOL: Final = Target("protocol", _seeds, _open, JSON, cpu_seconds=0.5, max_bytes=MAX_MESSAGE_BYTES)
