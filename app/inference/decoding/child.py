"""The decoding child: takes one content after another from its parent, decodes, resizes, answers.

It holds no credentials (its environment is empty), no network and a bounded share of memory, and it may die at any
moment: the parent then has lost one picture. Nothing of the parent's process is inherited but a socket and a piece of
shared memory.
"""

from __future__ import annotations

import io
import json
import mmap
import socket
import sys
from collections.abc import Mapping
from typing import Any, assert_never

import numpy as np
from PIL import Image

from app.domain.images import ImageLimits, Rejection, RejectReason
from app.inference.decoding import sandbox
from app.inference.decoding.decoder import Decoder
from app.inference.decoding.pictures import DecodedImage, DecodeOptions, OverBudget
from app.inference.decoding.protocol import (
    MAX_MESSAGE_BYTES,
    UNASKED_BYTES,
    Answer,
    Block,
    Encoded,
    Job,
    Prepared,
    PrepareJob,
    ThumbnailJob,
    read_job,
    write_answer,
)
from app.inference.decoding.renditions import on_white, renditions_of
from app.inference.preprocessing import prepare


class Child:
    """The loop and what it works with. Making one loads the decoders."""

    def __init__(self, parent: socket.socket, shared: mmap.mmap, begin: Mapping[str, Any]) -> None:
        self._parent = parent
        self._shared = shared
        self._limits = ImageLimits(**begin["limits"])
        self._cpu_seconds: float = begin["cpu_seconds"]
        self._decoders: dict[DecodeOptions, Decoder] = {}

    def say(self, message: Mapping[str, Any]) -> None:
        """Send one message to the parent."""
        self._parent.sendall(json.dumps(message, separators=(",", ":")).encode())

    def serve(self) -> None:
        """Answer jobs until the parent closes the socket."""
        while received := self._parent.recv(MAX_MESSAGE_BYTES):
            message = json.loads(received)
            sandbox.limit_cpu(self._cpu_seconds)
            self.say(write_answer(self._answer(bytes(self._shared[: message["size"]]), read_job(message))))

    def _answer(self, content: bytes, job: Job) -> Answer:
        try:
            image = self._decoder(job).decode(content, self._grant)
            if isinstance(image, Rejection):
                return image
            match job:
                case PrepareJob():
                    return self._prepare(image, job)
                case ThumbnailJob():
                    return self._thumbnail(image, job)
                case _:
                    assert_never(job)
        except MemoryError:
            return Rejection(RejectReason.TOO_MUCH_MEMORY, "decoding ran into the memory limit of its process")

    def _decoder(self, job: Job) -> Decoder:
        match job:
            case PrepareJob():
                # A quadrant is half as wide as its picture, and must be large enough for every model too.
                side = job.smallest_side * (2 if job.quadrants_from_pixels else 1)
                options = DecodeOptions(side, job.frames)
            case ThumbnailJob():
                options = DecodeOptions(job.side, 1)
        if options not in self._decoders:
            self._decoders[options] = Decoder(self._limits, options)
        return self._decoders[options]

    def _grant(self, need_bytes: int) -> None:
        if need_bytes <= UNASKED_BYTES:
            return
        self.say({"need": need_bytes})
        answer = self._parent.recv(MAX_MESSAGE_BYTES)
        if not answer:
            sys.exit()
        if not json.loads(answer)["granted"]:
            raise OverBudget

    def _prepare(self, image: DecodedImage, job: PrepareJob) -> Answer:
        shown = renditions_of(image, job.quadrants_from_pixels, job.max_renditions)
        if isinstance(shown, Rejection):
            return shown
        blocks: list[Block] = []
        at = 0
        for number, one in enumerate(shown):
            for position, spec in enumerate(job.specs):
                made = prepare(one.picture, spec)
                height, width = made.pixels.shape[:2]
                statistics = made.statistics if made.statistics is not None else np.empty(0, np.float32)
                block = Block(number, position, at, height, width, len(statistics))
                values = made.pixels.tobytes() + statistics.astype(np.float32).tobytes()
                self._shared[at : at + len(values)] = values
                blocks.append(block)
                at += len(values)
        return Prepared(image.header, image.truncated, tuple(one.rendition for one in shown), tuple(blocks))

    def _thumbnail(self, image: DecodedImage, job: ThumbnailJob) -> Encoded:
        # Made of bare pixels: nothing that the file said beside them can come along.
        picture = Image.fromarray(on_white(image.frames[0].pixels))
        picture.thumbnail((job.side, job.side))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=job.quality)
        jpeg = buffer.getvalue()
        self._shared[: len(jpeg)] = jpeg
        return Encoded(len(jpeg))
