"""Outcomes as wide as real ones, for an index of many images: four models, 18 labels, digests and keys that differ."""

from __future__ import annotations

import hashlib
from typing import Final

from app.domain import identity
from app.domain.contents import WHOLE
from schemas.records import ImagePrediction, LabelScore, ModelScores, Position, Timings

_UPLOADED_MS: Final = 1_795_000_000_000
_LABELS: Final = {
    "nsfw": ("nsfw",),
    "category": ("dress", "hat", "longsleeve", "outwear", "pants", "shirt", "shoes", "shorts", "skirt", "t-shirt"),
    "quality": ("blurry", "dark", "overexposed", "noisy", "overcompressed", "overall"),
    "embedded_text": ("text",),
}


def key_of(number: int) -> str:
    """Return the key of the image with this number, below a folder as shops have them."""
    return f"shop/{number % 1000:03d}/photo-{number:08d}.jpg"


def path_of(number: int) -> str:
    """Return the key as one segment of a path."""
    return key_of(number).replace("/", "%2F")


def indexed_outcome(bucket: str, number: int) -> ImagePrediction:
    """Return the scored outcome of one upload; equal numbers give equal outcomes."""
    digest = hashlib.sha256(number.to_bytes(8, "big")).hexdigest()
    time_ms = _UPLOADED_MS + number
    sequencer = f"{number:016X}"
    scores = tuple(
        ModelScores(
            model,
            "1",
            "p1",
            tuple(LabelScore(label, int(digest[at * 2 : at * 2 + 4], 16) / 65_536) for at, label in enumerate(labels)),
            (),
            False,
            "",
        )
        for model, labels in _LABELS.items()
    )
    position = Position("image.tasks.v1", number % 8, number)
    return ImagePrediction(
        upload_id=digest[:32],
        bucket=bucket,
        key=key_of(number),
        version_id=None,
        etag=digest[32:],
        size_bytes=116_000,
        sha256=digest,
        outcome="scored",
        reason="",
        detail="",
        superseded=False,
        cached=False,
        format="jpeg",
        width=960,
        height=640,
        scores=scores,
        reasons=(),
        previous=(),
        dialect="aws",
        sequencer=sequencer,
        order_key=identity.order_key("aws", sequencer, time_ms),
        event_name="ObjectCreated:Put",
        event_time_ms=time_ms,
        identified_at_ms=time_ms + 20,
        scored_at_ms=time_ms + 200,
        timings=Timings(12, 4, 6, 20, 42),
        lane="live",
        attempt=0,
        job_id=None,
        source=position,
        task=position,
        worker="bench-0",
        release="0.1.0",
        frames=1,
        publishable=True,
        renditions=(WHOLE,),
    )
