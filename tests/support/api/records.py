"""Images of every kind in a real index, some of whose objects lie in a real store."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from app.api.dependencies import ApiParts
from app.pipeline.index import ImageFacts
from app.ports.index import IndexEntry
from app.systems.s3.put import Uploader
from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved, ImageTask, ModerationDecision
from tests.support.outcomes import decision_of, flag_of, prediction, removal, task_of
from tests.support.pictures import encoded, noise

ODD_KEYS: Final = (
    "a b+c&d=e?f#g%25.jpg",
    "日本/カメラ.jpg",
    "dots/../up//twice/.jpg",
    "story/explain",
    'quote"\\back|{}^`.jpg',
    "e\u0301 line\u2028break\ttab\r\n.jpg",
    "\U0001f600" * 10 + ".jpg",
    "/begins/and/ends/",
    "k" * 1020 + ".jpg",
)


@dataclass(frozen=True, slots=True)
class Known:
    """What the index was told."""

    bucket: str
    keys: tuple[str, ...]
    pictures: tuple[str, ...]
    digests: tuple[str, ...]
    etags: tuple[str, ...]
    flag_ids: tuple[str, ...]


class _Shop:
    def __init__(self, parts: ApiParts, bucket: str, uploader: Uploader) -> None:
        self._facts = ImageFacts(parts.index, parts.queue, parts.settings.moderation.actions)
        self._codec = parts.codec
        self._bucket = bucket
        self._uploader = uploader
        self.outcomes: list[ImagePrediction] = []
        self.flags: list[FlaggedImage] = []

    async def outcome(self, key: str, **changes: object) -> ImagePrediction:
        number = len(self.outcomes) + 1
        digest = hashlib.sha256(key.encode()).hexdigest()
        etag = hashlib.md5(key.encode()).hexdigest()
        fields = {"bucket": self._bucket, "key": key, "sha256": digest, "etag": etag, "order": number, **changes}
        made = prediction(**fields)
        self.outcomes.append(made)
        await self.store(made)
        return made

    async def flag(self, made: ImagePrediction, **changes: object) -> FlaggedImage:
        flag = flag_of(made, **changes)
        self.flags.append(flag)
        await self.store(flag)
        return flag

    async def stored(self, key: str, body: bytes = b"", **changes: object) -> ImagePrediction:
        """An outcome whose object lies in the store: `body`, or a picture of its own."""
        body = body or encoded(noise(len(self.outcomes)), "JPEG")
        etag = await self._uploader.put(self._bucket, key, body)
        digest = hashlib.sha256(body).hexdigest()
        return await self.outcome(key, etag=etag, size_bytes=len(body), sha256=digest, **changes)

    async def store(
        self, *records: ImagePrediction | FlaggedImage | ImageRemoved | ImageTask | ModerationDecision
    ) -> None:
        await self._facts.store([IndexEntry(one, self._codec.encode(one)) for one in records])


async def fill(parts: ApiParts, bucket: str) -> Known:
    """Put images of every kind into the index of `parts`; `bucket` exists. Returns what is there now."""
    async with Uploader(parts.settings.s3) as uploader:
        shop = _Shop(parts, bucket, uploader)
        for number in range(3):
            await shop.flag(await shop.stored(f"stored/{number}.jpg"))
        await shop.stored("stored/no-picture.jpg", b"no picture at all")
        await _plain(shop)
        for key in ODD_KEYS:
            await shop.flag(await shop.outcome(key), action="review", severity=60)
    return Known(
        bucket,
        tuple(dict.fromkeys(one.key for one in shop.outcomes)),
        tuple(f"stored/{number}.jpg" for number in range(3)),
        tuple(dict.fromkeys(one.sha256 for one in shop.outcomes if one.sha256)),
        tuple(dict.fromkeys(one.etag for one in shop.outcomes if one.etag)),
        tuple(one.flag_id for one in shop.flags),
    )


async def _plain(shop: _Shop) -> None:
    await shop.stored("scored.jpg", reasons=("blurry",))
    await shop.outcome("twice.jpg")
    await shop.outcome("twice.jpg", cached=True, version_id="v2", job_id="job-1")
    nothing = {"scores": (), "format": "", "width": 0, "height": 0}
    await shop.outcome("rejected.jpg", outcome="rejected", reason="undecodable", detail="no JPEG", **nothing)
    await shop.outcome("gone.jpg", outcome="gone", reason="deleted", sha256=None, etag=None, size_bytes=None, **nothing)
    taken = await shop.outcome("removed.jpg")
    await shop.store(removal(bucket=taken.bucket, key=taken.key, order=1000))
    again = await shop.stored("again.jpg")
    later = prediction(bucket=again.bucket, key=again.key, order=1001)
    await shop.store(task_of(later))
    under_way = await shop.stored("never-asked.jpg")
    await shop.store(task_of(prediction(bucket=under_way.bucket, key="under-way.jpg", order=1002)))
    for number, verb in enumerate(("approve", "reject", "skip"), 1):
        flag = await shop.flag(await shop.stored(f"decided/{verb}.jpg"), action="notify", severity=20)
        await shop.store(decision_of(flag, verb, number=number))  # type: ignore[arg-type]
    await shop.flag(await shop.stored("cleared.jpg"), state="cleared", rules=(), action="none", severity=0)
