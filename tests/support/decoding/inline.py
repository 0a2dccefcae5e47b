"""Decoding without child processes, for tests that are about something else."""

from __future__ import annotations

import asyncio

from app.domain.images import Rejection
from app.inference.budget import Ticket
from app.inference.decoding.pool import DecodeCounts, Decoded, image_limits
from app.inference.decoding.process import inputs_of
from app.inference.decoding.protocol import Encoded, Job, Prepared
from app.inference.decoding.work import DecodeWork
from app.settings import LimitSettings


class InlineDecoding:
    """The twin of DecodePool: the same work on a thread of this process, one content at a time."""

    def __init__(self, limits: LimitSettings | None = None) -> None:
        self.counts = DecodeCounts()
        self.waiting = 0
        self._work = DecodeWork(image_limits(limits or LimitSettings()))
        self._shared = bytearray(1 << 20)
        self._turn = asyncio.Lock()

    def promote(self, ticket: Ticket) -> None:
        """See Decoding: one at a time has no order to change."""

    def start(self) -> None:
        """See Decoding."""

    async def run(self, content: bytes, job: Job, ticket: Ticket) -> Decoded:
        """See Decoding."""
        async with self._turn:
            answer = await asyncio.to_thread(self._work.answer, content, job, self._shared, lambda _: None)
            match answer:
                case Rejection():
                    return Decoded(answer, 0.0, 0.0, _nothing)
                case Encoded():
                    return Decoded(bytes(self._shared[: answer.jpeg_bytes]), 0.0, 0.0, _nothing)
                case Prepared():
                    return Decoded(inputs_of(answer, self._shared), 0.0, 0.0, _nothing)

    async def close(self) -> None:
        """See Decoding."""


def _nothing() -> None: ...
