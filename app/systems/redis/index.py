"""The index in Redis (or Valkey): one string per image, per flagged image, per decision and per content.

A value is one header line (the fact's standing, tab-separated) and the record exactly as on its topic, so readers of
the topics can read it. One Lua script per fact compares and sets atomically in the server, and notifies
`app/systems/redis/watch.py`. Keys of one image share a hash tag, so the scripts also work on a cluster.

    <prefix>i:{<bucket>/<key>}            latest outcome, or the tombstone of a removal
    <prefix>f:{<bucket>/<key>}            latest flag
    <prefix>o:{…}, <prefix>g:{…}          the same two, for outcomes by the other reading of the event's key
    <prefix>v:{<bucket>/<key>}@<version>  tombstone of one version of a versioned object
    <prefix>p:{<bucket>/<key>}            upload without an outcome yet: the header line alone
    <prefix>e:{<bucket>/<key>}            latest decision of a person
    <prefix>h:{…}, <prefix>d:{…}          recent outcomes and decisions, sorted sets by time
    <prefix>c:{<sha256>}                  latest outcome of these bytes
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from redis.exceptions import NoScriptError

from app.domain.standing import (
    Standing,
    comes_after,
    content_standing,
    other_counts,
    removes_one_version,
    same_upload,
    standing_of,
)
from app.errors import Poison, RedisUnavailable
from app.ports.index import Image, ImageHistory, IndexedImage, IndexEntry, PendingUpload
from app.ports.records import RecordCodec
from app.settings import RedisSettings
from app.systems.redis.client import connect, redis_errors
from app.systems.redis.index_reads import ReadsTogether
from app.systems.redis.lua import lua
from app.systems.redis.watch import changes_channel
from schemas.records import FlaggedImage, ImagePrediction, ImageRemoved, ImageTask, ModerationDecision

_R = TypeVar("_R")
_MS_PER_HOUR: Final = 3_600_000
# Letters of the keys of outcome and flag: by the first reading of the event's key, and by the other.
_FIRST: Final = ("i", "f")
_OTHER: Final = ("o", "g")
_KEYS_OF_IMAGE: Final = 6
# Longer than all retries of an upload and an outage of a day. An upload without an outcome by then is a dead letter.
_PENDING_TTL_MS: Final = 48 * _MS_PER_HOUR
# Answers of the scripts: stored, or stored for an image with a flag (even if that flag was not stored).
_ALWAYS: Final = 0
_HAS_FLAG: Final = 2


@dataclass(frozen=True, slots=True)
class _Scripts:
    """Digests of the scripts on the server."""

    put: str
    outcome: str
    pending: str
    remove: str


class RedisIndex:
    """`Index` on a Redis server. Entries of one `apply` need one round trip, and so do concurrent reads."""

    def __init__(self, settings: RedisSettings, codec: RecordCodec) -> None:
        self._codec = codec
        self._prefix = settings.prefix
        self._image_ttl_ms = round(settings.image_days * 24 * _MS_PER_HOUR)
        self._content_ttl_ms = round(settings.content_days * 24 * _MS_PER_HOUR)
        self._tombstone_ttl_ms = round(settings.tombstone_hours * _MS_PER_HOUR)
        self._history = settings.history
        self._redis: Any = connect(settings)
        self._scripts: _Scripts | None = None
        self._reads = ReadsTogether(self._redis)

    async def apply(self, entries: Sequence[IndexEntry]) -> Sequence[Image]:
        """Apply `entries` in one round trip; see `Index`."""
        try:
            return await self._apply(entries)
        except RedisUnavailable as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        # The server was restarted, or its scripts were flushed. Applying entries twice is harmless.
        self._scripts = None
        return await self._apply(entries)

    async def _apply(self, entries: Sequence[IndexEntry]) -> Sequence[Image]:
        with redis_errors(self._redis):
            if self._scripts is None:
                texts = [lua(__file__, "standing", name) for name in ("put", "put_outcome", "put_pending", "remove")]
                self._scripts = _Scripts(*[await self._redis.script_load(text) for text in texts])
            pipe = self._redis.pipeline(transaction=False)
            owners: list[tuple[Image, int] | None] = []
            for entry in entries:
                self._queue(pipe, owners, entry, self._scripts)
            answers = await pipe.execute()
        pairs = zip(owners, answers, strict=True)
        return tuple(dict.fromkeys(owner[0] for owner, answer in pairs if owner is not None and answer >= owner[1]))

    def _queue(self, pipe: Any, owners: list[tuple[Image, int] | None], entry: IndexEntry, scripts: _Scripts) -> None:
        """Queue the commands of `entry`. For each, append to `owners` the image whose flag may have changed if the
        answer is at least the given number, or None."""
        record = entry.record
        image = f"{{{record.bucket}/{record.key}}}"
        key = partial(self._key, image)
        tombstone = f"{key('v')}@{record.version_id or ''}"
        channel = changes_channel(self._prefix, record.bucket, record.key)
        standing = standing_of(record)
        header = _header(standing)
        outcome, flag = (key(letter) for letter in (_OTHER if standing.other_reading else _FIRST))
        owner = (record.bucket, record.key)
        match record:
            case ImagePrediction():
                wire = self._codec.encode(dataclasses.replace(record, previous=())) if record.previous else entry.wire
                keys = (outcome, tombstone, flag, key("h"), key("p"))
                pipe.evalsha(scripts.outcome, 5, *keys, header + wire, self._image_ttl_ms, channel, self._history)
                owners.append((owner, _HAS_FLAG))
                if record.sha256:
                    value = _header(content_standing(record)) + wire
                    content = f"{self._prefix}c:{{{record.sha256}}}"
                    pipe.evalsha(scripts.put, 2, content, content, value, self._content_ttl_ms, "")
                    owners.append(None)
            case FlaggedImage():
                pipe.evalsha(scripts.put, 2, flag, tombstone, header + entry.wire, self._image_ttl_ms, channel)
                owners.append((owner, _ALWAYS))
            case ModerationDecision():
                decision = key("e")
                value = header + entry.wire
                pipe.evalsha(scripts.put, 2, decision, tombstone, value, self._image_ttl_ms, channel)
                pipe.zadd(key("d"), {entry.wire: record.decided_at_ms})
                pipe.zremrangebyrank(key("d"), 0, -1 - self._history)
                owners += [(owner, _ALWAYS), None, None]
                if self._image_ttl_ms:
                    pipe.pexpire(key("d"), self._image_ttl_ms)
                    owners.append(None)
            case ImageTask():
                outcomes = (key(_FIRST[0]), key(_OTHER[0]))
                pipe.evalsha(scripts.pending, 4, key("p"), *outcomes, tombstone, header, _PENDING_TTL_MS, channel)
                owners.append(None)
            case ImageRemoved():
                one_version = removes_one_version(record)
                # A version's id belongs to one object, whichever reading its outcome used.
                for letters in (_FIRST, _OTHER) if one_version else (_OTHER if standing.other_reading else _FIRST,):
                    places = (key(letters[0]), tombstone, key(letters[1]), key("h"), key("p"))
                    ttl, version_only = self._tombstone_ttl_ms, "1" if one_version else "0"
                    pipe.evalsha(scripts.remove, 5, *places, header, ttl, channel, self._history, version_only)
                    owners.append((owner, _HAS_FLAG))

    def _key(self, image: str, letter: str) -> str:
        return f"{self._prefix}{letter}:{image}"

    async def image(self, bucket: str, key: str) -> IndexedImage | None:
        """See `Index`."""
        return self._image(bucket, key, await self._reads.read(self._image_keys(bucket, key)))

    async def images(self, images: Sequence[Image]) -> Sequence[IndexedImage | None]:
        """See `Index`."""
        keys = [name for bucket, key in images for name in self._image_keys(bucket, key)]
        values = await self._reads.read(keys) if keys else []
        rows = zip(*[iter(values)] * _KEYS_OF_IMAGE, strict=True)
        return [self._image(bucket, key, row) for (bucket, key), row in zip(images, rows, strict=True)]

    def _image_keys(self, bucket: str, key: str) -> list[str]:
        image = f"{{{bucket}/{key}}}"
        return [f"{self._prefix}{letter}:{image}" for letter in (*_FIRST, *_OTHER, "p", "e")]

    def _image(self, bucket: str, key: str, row: Sequence[bytes | None]) -> IndexedImage | None:
        stored, flag_value, other, other_flag, pending_value, decision_value = row
        first = None if stored is None else _split(stored)[0]
        if other is not None and other_counts(first, dataclasses.replace(_split(other)[0], other_reading=True)):
            stored, flag_value = other, other_flag
        pending, awaited = None, None
        if pending_value is not None:
            awaited = _split(pending_value)[0]
            pending = PendingUpload(awaited.id, awaited.decided_at_ms)
        if stored is None:
            return None if pending is None else IndexedImage(bucket, key, None, None, None, None, pending)
        standing, wire = _split(stored)
        if awaited is not None and not comes_after(awaited, standing):
            pending = None
        if standing.removal:
            return IndexedImage(bucket, key, None, None, standing.event_time_ms, None, pending)
        prediction = self._decode(wire, ImagePrediction)
        flag = self._of_same_upload(flag_value, standing, FlaggedImage)
        decision = self._of_same_upload(decision_value, standing, ModerationDecision)
        return IndexedImage(bucket, key, prediction, flag, None, decision, pending)

    def _of_same_upload(self, value: bytes | None, standing: Standing, record: type[_R]) -> _R | None:
        if value is None:
            return None
        flagged_standing, wire = _split(value)
        return self._decode(wire, record) if same_upload(flagged_standing, standing) else None

    async def history(self, bucket: str, key: str) -> ImageHistory:
        """See `Index`."""
        name = partial(self._key, f"{{{bucket}/{key}}}")
        with redis_errors(self._redis):
            pipe = self._redis.pipeline(transaction=False)
            pipe.zrevrange(name("h"), 0, -1)
            pipe.zrevrange(name("d"), 0, -1)
            pipe.mget(name(_FIRST[0]), name(_OTHER[0]))
            kept, decided, latest = await pipe.execute()
        split = [_split(value) for value in (*latest, *kept) if value is not None]
        outcomes = {
            (standing.id, standing.decided_at_ms): self._decode(wire, ImagePrediction)
            for standing, wire in split
            if not standing.removal
        }
        return ImageHistory(
            tuple(sorted(outcomes.values(), key=lambda outcome: outcome.scored_at_ms, reverse=True)),
            tuple(self._decode(wire, ModerationDecision) for wire in decided),
        )

    async def content(self, sha256: str) -> ImagePrediction | None:
        """See `Index`."""
        (stored,) = await self._reads.read([f"{self._prefix}c:{{{sha256}}}"])
        return None if stored is None else self._decode(_split(stored)[1], ImagePrediction)

    def _decode(self, wire: bytes, record: type[_R]) -> _R:
        try:
            return self._codec.decode_as(wire, record)
        except Poison as poison:
            raise RedisUnavailable(f"the index contains a value that cannot be read ({poison}); rebuild it") from poison

    async def close(self) -> None:
        """Release connections."""
        self._reads.close()
        await self._redis.aclose()


def _header(standing: Standing) -> bytes:
    fields = (
        "1" if standing.removal else "0",
        standing.dialect,
        standing.order_key,
        str(standing.event_time_ms),
        str(standing.decided_at_ms),
        standing.id,
        standing.version_id,
    )
    # An event may contain any text as version; a separator in a field must not break the line.
    return ("\t".join(field.replace("\t", " ").replace("\n", " ") for field in fields) + "\n").encode()


def _split(value: bytes) -> tuple[Standing, bytes]:
    # The key of the value shows which reading its outcome used.
    line, _, wire = value.partition(b"\n")
    removal, dialect, order_key, event_time, decided_at, identity, version = line.decode().split("\t")
    standing = Standing(removal == "1", dialect, order_key, int(event_time), int(decided_at), identity, version)
    return standing, wire
