"""Protocol between parent and decoding child: JSON over a socket of packets, bytes in shared memory.

    parent  {"size": …, "job": {…}}             the content is at the start of the shared memory
    child   {"need": bytes}                     only for more memory than UNASKED_BYTES
    parent  {"granted": true | false}
    child   an answer: {"rejection": {…}} | {"image": {…}} | {"jpeg": bytes}

JSON, because a hostile file may take over a child, and the parent must parse its messages safely. The parent checks
every answer: `read_answer` raises ValueError for an invalid one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from app.domain.images import ImageFormat, ImageHeader, Rejection, RejectReason
from app.domain.renditions import DARK, WHITE
from app.inference.model_input import Fit, ImageInput
from schemas.records import Rendition

# Bytes that a child may allocate without asking: enough for an ordinary photograph.
UNASKED_BYTES: Final = 32 * 1024 * 1024
MAX_MESSAGE_BYTES: Final = 128 * 1024
_MAX_SIDE: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class PrepareJob:
    """Job: decode a content and make the inputs of networks, one for each rendition and geometry of `specs`.

    `smallest_side` and `frames`: see DecodeOptions. `quadrants_from_pixels`: pictures with at least this many pixels
    get quadrants as renditions; 0: no picture. More than `max_renditions` renditions are a rejection.
    """

    specs: tuple[ImageInput, ...]
    smallest_side: int
    frames: int
    quadrants_from_pixels: int
    max_renditions: int


@dataclass(frozen=True, slots=True)
class ThumbnailJob:
    """Job: decode a content and encode its first frame as a JPEG, on white, with sides of at most `side` pixels."""

    side: int
    quality: int


Job = PrepareJob | ThumbnailJob


@dataclass(frozen=True, slots=True)
class Block:
    """Position of one model input in the shared memory: uint8 pixels [height, width, 3], then float32 statistics."""

    rendition: int
    spec: int
    offset: int
    height: int
    width: int
    statistics: int

    @property
    def pixel_bytes(self) -> int:
        """Size of the pixels."""
        return self.height * self.width * 3

    @property
    def end(self) -> int:
        """Offset of the first byte after the block."""
        return self.offset + self.pixel_bytes + 4 * self.statistics


@dataclass(frozen=True, slots=True)
class Prepared:
    """Answer to a PrepareJob."""

    header: ImageHeader
    truncated: bool
    renditions: tuple[Rendition, ...]
    blocks: tuple[Block, ...]

    @property
    def input_bytes(self) -> int:
        """Size of all inputs."""
        return max((block.end for block in self.blocks), default=0)


@dataclass(frozen=True, slots=True)
class Encoded:
    """Answer to a ThumbnailJob: a JPEG at the start of the shared memory."""

    jpeg_bytes: int


Answer = Rejection | Prepared | Encoded


def write_job(size: int, job: Job) -> dict[str, Any]:
    """Return the message that requests `job` on a content of `size` bytes."""
    kind = "prepare" if isinstance(job, PrepareJob) else "thumbnail"
    return {"size": size, "kind": kind, "job": dataclasses.asdict(job)}


def read_job(message: Mapping[str, Any]) -> Job:
    """Return the job of a message that `write_job` made."""
    fields = dict(message["job"])
    if message["kind"] == "thumbnail":
        return ThumbnailJob(**fields)
    fields["specs"] = tuple(_spec(spec) for spec in fields["specs"])
    return PrepareJob(**fields)


def _spec(fields: Mapping[str, Any]) -> ImageInput:
    return ImageInput(
        **{
            **fields,
            "fit": Fit(fields["fit"]),
            "mean": tuple(fields["mean"]),
            "scale": tuple(fields["scale"]),
        }
    )


def write_answer(answer: Answer) -> dict[str, Any]:
    """Return the message that carries `answer`."""
    match answer:
        case Rejection():
            return {"rejection": dataclasses.asdict(answer)}
        case Encoded():
            return {"jpeg": answer.jpeg_bytes}
        case Prepared():
            return {
                "image": {
                    "header": dataclasses.asdict(answer.header),
                    "truncated": answer.truncated,
                    "renditions": [dataclasses.astuple(rendition) for rendition in answer.renditions],
                    "blocks": [dataclasses.astuple(block) for block in answer.blocks],
                }
            }


def read_answer(message: Mapping[str, Any], job: Job, memory_bytes: int) -> Answer:
    """Return the checked answer of a child to `job`: blocks inside the shared memory, exactly one for each input.

    Raises ValueError, TypeError or KeyError for an invalid answer.
    """
    if "rejection" in message:
        return _rejection(message["rejection"])
    if isinstance(job, ThumbnailJob):
        return Encoded(_whole(message["jpeg"], memory_bytes))
    image = message["image"]
    header = image["header"]
    renditions = tuple(_rendition(fields) for fields in image["renditions"])
    if not 1 <= len(renditions) <= job.max_renditions:
        raise ValueError(f"{len(renditions)} renditions")
    blocks = tuple(Block(*(_whole(value, memory_bytes) for value in fields)) for fields in image["blocks"])
    if [(block.rendition, block.spec) for block in blocks] != [
        (rendition, spec) for rendition in range(len(renditions)) for spec in range(len(job.specs))
    ]:
        raise ValueError("not one input for each rendition and geometry")
    for block in blocks:
        if block.end > memory_bytes:
            raise ValueError("an input outside the shared memory")
    return Prepared(
        ImageHeader(
            ImageFormat(header["format"]),
            _whole(header["width"], _MAX_SIDE, least=1),
            _whole(header["height"], _MAX_SIDE, least=1),
            _whole(header["frames"], _MAX_SIDE, least=1),
            _whole(header["decoder_bytes"], 2**63 - 1),
        ),
        image["truncated"] is True,
        renditions,
        blocks,
    )


def _rejection(fields: Mapping[str, Any]) -> Rejection:
    kind = str(fields["format"])
    return Rejection(
        RejectReason(fields["reason"]),
        # JSON may contain half of a surrogate pair, which an outcome cannot encode.
        str(fields["detail"])[:300].encode("utf-8", "replace").decode(),
        ImageFormat(kind).value if kind else "",
        _whole(fields["width"], 2**63 - 1),
        _whole(fields["height"], 2**63 - 1),
    )


def _rendition(fields: Any) -> Rendition:
    frame, left, top, right, bottom, ground = fields
    if ground not in ("", WHITE, DARK):
        raise ValueError("no ground")
    return Rendition(_whole(frame, _MAX_SIDE), _part(left), _part(top), _part(right), _part(bottom), ground)


def _part(value: Any) -> float:
    if type(value) is not float or not 0.0 <= value <= 1.0:
        raise ValueError(f"{value!r} is no part of a side")
    return value


def _whole(value: Any, most: int, *, least: int = 0) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{value!r} is no number from {least} to {most}")
    return value
