"""Execution of one decoding job in a child, from the bytes to the answer. Blocks."""

from __future__ import annotations

import io
import mmap
from typing import assert_never

import numpy as np
from PIL import Image

from app.domain.images import ImageLimits, Rejection, RejectReason
from app.inference.decoding.decoder import Decoder
from app.inference.decoding.pictures import DecodedImage, DecodeOptions, Grant
from app.inference.decoding.protocol import Answer, Block, Encoded, Job, Prepared, PrepareJob, ThumbnailJob
from app.inference.decoding.renditions import on_white, renditions_of
from app.inference.preprocessing import prepare

Shared = bytearray | mmap.mmap
"""Memory from which the caller reads the results."""


class DecodeWork:
    """Executor of jobs, one at a time. Caches a decoder for each combination of options."""

    def __init__(self, limits: ImageLimits) -> None:
        self._limits = limits
        self._decoders: dict[DecodeOptions, Decoder] = {}

    def answer(self, content: bytes, job: Job, shared: Shared, grant: Grant) -> Answer:
        """Return the answer to `job` on `content`. Pixels and JPEGs are written to `shared`.

        `grant` is called before a decoder allocates (see pictures.Grant). Never raises, whatever `content` is.
        """
        try:
            image = self._decoder(job).decode(content, grant)
            if isinstance(image, Rejection):
                return image
            match job:
                case PrepareJob():
                    return _prepare(image, job, shared)
                case ThumbnailJob():
                    return _thumbnail(image, job, shared)
                case _:
                    assert_never(job)
        except MemoryError:
            return Rejection(RejectReason.TOO_MUCH_MEMORY, "decoding ran into the memory limit of its process")

    def _decoder(self, job: Job) -> Decoder:
        match job:
            case PrepareJob():
                # A quadrant has half the width of its picture and must still be large enough for every model.
                side = job.smallest_side * (2 if job.quadrants_from_pixels else 1)
                options = DecodeOptions(side, job.frames)
            case ThumbnailJob():
                options = DecodeOptions(job.side, 1)
        if options not in self._decoders:
            self._decoders[options] = Decoder(self._limits, options)
        return self._decoders[options]


def _prepare(image: DecodedImage, job: PrepareJob, shared: Shared) -> Prepared | Rejection:
    shown = renditions_of(image, job.quadrants_from_pixels, job.max_renditions)
    if isinstance(shown, Rejection):
        return shown
    blocks: list[Block] = []
    at = 0
    for number, view in enumerate(shown):
        for position, spec in enumerate(job.specs):
            made = prepare(view.picture, spec)
            height, width = made.pixels.shape[:2]
            statistics = made.statistics if made.statistics is not None else np.empty(0, np.float32)
            block = Block(number, position, at, height, width, len(statistics))
            shared[at : block.end] = made.pixels.tobytes() + statistics.astype(np.float32).tobytes()
            blocks.append(block)
            at = block.end
    return Prepared(image.header, image.truncated, tuple(view.rendition for view in shown), tuple(blocks))


def _thumbnail(image: DecodedImage, job: ThumbnailJob, shared: Shared) -> Encoded:
    # Made from pixels only, so no metadata of the file can be included.
    picture = Image.fromarray(on_white(image.frames[0].pixels))
    picture.thumbnail((job.side, job.side))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=job.quality)
    jpeg = buffer.getvalue()
    shared[: len(jpeg)] = jpeg
    return Encoded(len(jpeg))
