"""What the core needs from outside, as Protocols whose docstrings are contracts.

Adapters in app/systems and in the features implement them. tests/support/memory holds in-memory implementations;
tests/contract runs one suite on both.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar, runtime_checkable

from app.domain.archive import FileRange
from app.domain.claims import StoredClaim
from app.domain.contents import ContentRow
from app.domain.moderation import Waiting
from app.domain.sessions import ConsoleSession
from schemas.records import (
    FlaggedImage,
    ImagePrediction,
    ImageRemoved,
    ImageTask,
    ModerationDecision,
    Position,
    Record,
)

_R = TypeVar("_R")


class Clock(Protocol):
    """Time. The real one is the system's; tests move theirs by hand."""

    def now_ms(self) -> int:
        """Return Unix time in milliseconds."""
        ...

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; cancellable."""
        ...


# --- records in, results out ---


@dataclass(frozen=True, slots=True)
class SourceRecord:
    """One Kafka record as it was read; bytes are untouched."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None

    @property
    def position(self) -> Position:
        """Where it lies."""
        return Position(self.topic, self.partition, self.offset)


@dataclass(frozen=True, slots=True)
class Output:
    """One record to publish. The topic name is without the installation's prefix; the partition follows the key."""

    topic: str
    key: bytes
    record: Record


@dataclass(frozen=True, slots=True)
class Claim:
    """The right of one source record to be the one that publishes the outcome of `upload_id`.

    Taken at release, in source order: a stored claim of another position with the same or a higher attempt makes this
    record a repeat (no output); a lower stored attempt is taken over.
    `app.domain.claims.decide(row, claim)` is that decision, on the row `claims.row_key(upload_id, object_id)` of table
    `uploads`; what it returns to be stored is written, and its changelog record awaited, before the commit.
    """

    upload_id: str
    attempt: int
    # The second key (app/domain/claims.py decides with it): the object's identity without a time, empty for a job; the
    # upload's event time; and, of a task that reconcile made from a listing, the event times it stands for.
    object_id: str = ""
    event_time_ms: int = 0
    covers_from_ms: int | None = None
    covers_until_ms: int | None = None

    def stored_at(self, position: Position) -> StoredClaim:
        """Return this claim as the record at `position` asks for it."""
        return StoredClaim(
            self.upload_id,
            self.attempt,
            position,
            self.event_time_ms,
            self.covers_from_ms,
            self.covers_until_ms,
        )


@dataclass(frozen=True, slots=True)
class TableWrite:
    """An upsert made after the commit; losing it costs work, never correctness."""

    table: str
    key: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Completion:
    """What became of one source record: everything that leaves together with its offset, in one transaction.

    `dead_letters` counts against the ceiling. An empty completion only moves the offset.
    """

    outputs: tuple[Output, ...] = ()
    claim: Claim | None = None
    writes: tuple[TableWrite, ...] = ()
    dead_letters: int = 0


class Processor(Protocol):
    """One agent's use case, framework-free (app/pipeline). The lane calls it for records concurrently."""

    async def process(self, record: SourceRecord) -> Completion:
        """Return what becomes of `record`.

        Concurrent calls may finish in any order; the lane releases in source order. A bad record is a completion with a
        dead letter, never an exception: an exception of any kind ends the process. Waiting for a service that is away
        happens inside (the lane shows `waiting-for-store` by `LaneStatus`). Cancellable at every await; a cancelled
        record is handled again later.
        """
        ...


@runtime_checkable
class FollowsPartitions(Protocol):
    """A Processor that must know where delivery of each partition begins."""

    def begins_at(self, topic: str, partition: int, position: int) -> None:
        """Begin anew with a partition: its records come from offset `position` on, and older calls of `process` for it
        are all cancelled. Quick; called before the first record."""
        ...


@runtime_checkable
class GivesUp(Protocol):
    """A Processor whose dead letters name more than the record's bytes: an upload, a claim."""

    def given_up(self, record: SourceRecord, kind: str, detail: str) -> Completion:
        """Return the completion of a record that must not be handled: its dead letter of `kind`, with its claim.

        Only decodes the record. Never waits.
        """
        ...


class LaneStatus(Protocol):
    """What a processor says of itself while it waits, for the watchdog and /healthz."""

    def waiting(self, reason: str) -> None:
        """Say that work waits for `store`, `index`, `live`, `not-due` or `file`: standing still is then no stall."""
        ...

    def working(self) -> None:
        """Say that work goes on: from here on standing still too long ends the process."""
        ...


class RecordCodec(Protocol):
    """Records to and from the wire. Pure computation; safe to share between tasks."""

    def encode(self, record: Record) -> bytes:
        """Return the framed bytes of `record` in the newest version of its schema."""
        ...

    def decode(self, value: bytes | None) -> Record:
        """Return the record in `value`. Raises Poison(`not_avro` | `unknown_schema_id` | `undecodable`)."""
        ...

    def decode_as(self, value: bytes | None, record: type[_R]) -> _R:
        """Return the record in `value`, which must be a `record`; else Poison(`unexpected_record`)."""
        ...


class Tables(Protocol):
    """Keyed state beside a partition. Reads are local and synchronous (microseconds)."""

    def get(self, table: str, partition: int, key: bytes) -> bytes | None:
        """Return the value of `key`, or None. The partition must be owned, else KeyError."""
        ...


class Sink(Protocol):
    """A place outside Kafka that results are written to before their offset commits (the index)."""

    async def close(self) -> None:
        """Release connections."""
        ...


# --- the index of latest outcomes ---


IndexedRecord = ImagePrediction | ImageRemoved | FlaggedImage | ImageTask | ModerationDecision


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One fact for the index, with the bytes that it had on its topic (they are what the index keeps)."""

    record: IndexedRecord
    wire: bytes


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """An upload whose outcome is still to come; `since_ms` is when its event was read."""

    upload_id: str
    since_ms: int


@dataclass(frozen=True, slots=True)
class IndexedImage:
    """What the index knows of one bucket/key.

    `prediction` is the latest outcome, None when the image was removed (`removed_at_ms` is then the removal's event
    time) or has none yet. `flag` is the latest decision of the policy on that very upload; a rescoring that changed
    nothing leaves it in force. `decision` is the latest that a person decided of that upload. `pending` is an upload
    later than all of them.
    """

    bucket: str
    key: str
    prediction: ImagePrediction | None
    flag: FlaggedImage | None
    removed_at_ms: int | None
    decision: ModerationDecision | None = None
    pending: PendingUpload | None = None


@dataclass(frozen=True, slots=True)
class ImageHistory:
    """Every outcome of one bucket/key that is kept, and every decision; newest first."""

    outcomes: tuple[ImagePrediction, ...]
    decisions: tuple[ModerationDecision, ...]


Image = tuple[str, str]


class Index(Sink, Protocol):
    """The latest outcome per image and per content. Every wait is bounded.

    Applying an entry twice, or entries in any order, ends in the same state (app/domain/standing.py is the order).
    """

    async def apply(self, entries: Sequence[IndexEntry]) -> Sequence[Image]:
        """Apply `entries` and return when all are stored: the images (bucket, key) whose flag may be another one.

        Raises IndexUnavailable; some may then be stored.
        """
        ...

    async def image(self, bucket: str, key: str) -> IndexedImage | None:
        """Return what is known of bucket/key, None for nothing. Raises IndexUnavailable."""
        ...

    async def images(self, images: Sequence[Image]) -> Sequence[IndexedImage | None]:
        """Return what is known of each, in their order, by one question. Raises IndexUnavailable."""
        ...

    async def history(self, bucket: str, key: str) -> ImageHistory:
        """Return what is kept of bucket/key, the latest outcome included. Raises IndexUnavailable."""
        ...

    async def content(self, sha256: str) -> ImagePrediction | None:
        """Return the latest outcome of these bytes under any key, None for nothing. Raises IndexUnavailable."""
        ...


class ContentCache(Protocol):
    """What any process knows of a content, shared by all of them. Every wait is bounded.

    Nothing depends on it: what it loses, or does not answer, is computed again.
    """

    async def get(self, sha256: str) -> ContentRow | None:
        """Return what is known of these bytes, None for nothing. Raises IndexUnavailable."""
        ...

    async def put(self, sha256: str, row: ContentRow) -> None:
        """Keep `row` in place of what was kept of these bytes. Raises IndexUnavailable."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class ImageWatch(Protocol):
    """Tells when the index learns something of an image."""

    def watching(self, bucket: str, key: str) -> AbstractAsyncContextManager[asyncio.Event]:
        """Yield an event that is set at each change from then on; the caller clears it.

        A change may be missed while Redis is away: look again now and then.
        """
        ...


# --- the queue of images that wait for a moderator ---


@dataclass(frozen=True, slots=True)
class Lease:
    """An image that one moderator has for himself until `expires_ms`."""

    lease_id: str
    waiting: Waiting
    moderator: str
    expires_ms: int


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How many wait, leased ones included, by action; how many are leased; since when the oldest waits."""

    by_action: Mapping[str, int]
    leased: int
    oldest_ms: int | None


class ModerationQueue(Protocol):
    """Images in the order of weight × age, each shown to one moderator at a time. All raise IndexUnavailable.

    What the index knows decides which images wait (app/domain/moderation.py); this is their order, and who has which.
    """

    async def put(self, states: Sequence[tuple[Image, Waiting | None]]) -> None:
        """Make each image wait, or wait no more. What is leased stays leased. Repeating it changes nothing."""
        ...

    async def withdraw(self, waiting: Waiting) -> None:
        """Let an image wait no more, unless it has another place by now: another flag came meanwhile."""
        ...

    async def lease(self, moderator: str, count: int, actions: Collection[str]) -> Sequence[Lease]:
        """Return up to `count` images for `moderator`: those that he has already, renewed, then the next in order."""
        ...

    async def renew(self, moderator: str, lease_ids: Collection[str]) -> Sequence[str]:
        """Prolong leases; return those that are still his."""
        ...

    async def release(self, moderator: str, lease_ids: Collection[str]) -> None:
        """Give images back, to their places."""
        ...

    async def skip(self, moderator: str, image: Image) -> None:
        """Give an image back that this moderator does not want to see again for some time."""
        ...

    async def take(self, moderator: str, waiting: Waiting) -> Lease | None:
        """Lease this very image; None where another moderator has it. It waits from now on if it did not."""
        ...

    async def ahead(self, limit: int, actions: Collection[str]) -> Sequence[tuple[Waiting, str]]:
        """Return what waits, in order, and who has it leased (empty: nobody)."""
        ...

    async def counts(self) -> QueueCounts:
        """Return how many wait."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


# --- decisions of moderators ---


@dataclass(frozen=True, slots=True)
class ClaimedDecision:
    """Where a decision stands: `new`, `taken` over from a request that died, made (`wire` is its record), or in another
    request's hand. It was first asked for at `since_ms`; `request` is what the caller asked, if that is the same."""

    new: bool
    taken: bool
    request: str
    since_ms: int
    wire: bytes | None


class DecisionLog(Protocol):
    """Which decisions were made lately, so that a repeated request is no second decision, and how many today.

    All raise IndexUnavailable.
    """

    async def claim(self, decision_id: str, request: str, takeover_ms: int) -> ClaimedDecision:
        """Take a decision in hand if nobody has, or whoever has took it so long ago at least; of many callers one."""
        ...

    async def made(self, decision: ModerationDecision, wire: bytes, reversed_kind: str) -> None:
        """Note that a decision is published; counts it once, and takes a reversed one off. Taking back is no skip."""
        ...

    async def abandon(self, decision_id: str) -> None:
        """Forget a claim whose decision was certainly not published."""
        ...

    async def today(self) -> Mapping[tuple[str, str], int]:
        """Return today's (UTC) decisions by (moderator, kind)."""
        ...


# --- the object store ---


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """An object as an event named it. `etag` is normalised (no quotes, lower case)."""

    bucket: str
    key: str
    version_id: str | None
    etag: str | None
    size_bytes: int | None


@dataclass(frozen=True, slots=True)
class FetchedObject:
    """The bytes of an object and what the store said of them. `superseded`: not the version that was asked for."""

    body: bytes
    etag: str | None
    version_id: str | None
    key: str
    superseded: bool


@dataclass(frozen=True, slots=True)
class ObjectMissing:
    """The object cannot be read and never will be: `gone` (deleted), `archived`, `too_large`, `forbidden`."""

    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class ListedObject:
    """One row of a bucket listing."""

    bucket: str
    key: str
    etag: str | None
    size_bytes: int
    modified_ms: int


class ObjectStore(Protocol):
    """Reads objects; implementations bound every wait and retry within S3Settings."""

    async def fetch(
        self, ref: ObjectRef, *, max_bytes: int, alternate_key: str | None = None
    ) -> FetchedObject | ObjectMissing:
        """Return the object's bytes, or why there are none.

        With a version: exactly that version. Without: If-Match on the ETag; when it was overwritten, what is there now,
        marked superseded. On a 404, and only then, `alternate_key` is tried once and accepted if its ETag matches.
        A body longer than `max_bytes` is not read on: ObjectMissing(`too_large`). A key that is never asked for
        (app/domain/object_names.py) is ObjectMissing(`forbidden`).

        Raises BadReference, before it asks, for names against the rules of app/domain/object_names.py. Raises
        ObjectUnavailable, BucketUnavailable or StoreUnavailable after the attempts of the settings. Raises nothing
        else, whatever the names and the answers are.
        """
        ...

    def list(self, bucket: str, prefix: str) -> AsyncIterator[ListedObject]:
        """Yield the objects below `prefix`, in key order."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class WriteOnceStore(ObjectStore, Protocol):
    """An object store in which an object, once written, stays as it is: of rival writers exactly one wins."""

    async def put_new(self, bucket: str, key: str, body: bytes, metadata: Mapping[str, str]) -> bool:
        """Store an object under a key that holds none and return True; return False where one is there already.

        After True the object is durable. False may also mean that an earlier attempt of ours stored it. `metadata` has
        names in lower case and ASCII values. Raises BucketUnavailable, ObjectUnavailable or StoreUnavailable after
        the attempts of the settings; the object may then be there all the same.
        """
        ...

    def list(self, bucket: str, prefix: str, start_after: str = "") -> AsyncIterator[ListedObject]:
        """Yield the objects below `prefix` whose keys come after `start_after`, in key order."""
        ...

    async def metadata(self, bucket: str, key: str) -> Mapping[str, str] | None:
        """Return what `put_new` was given beside the body; None where there is no such object. Raises as `put_new`."""
        ...


# --- the archive of raw records ---


class Archive(Protocol):
    """Chains of files, one for each topic (named as Kafka knows it) and partition; see app/domain/archive.py.

    All methods raise StoreUnavailable, BucketUnavailable or ObjectUnavailable, after which they may be called again,
    and ArchiveBroken.
    """

    async def end(self, topic: str, partition: int, position: int) -> int:
        """Return where the chain ends (0 where there is none). Quick where that is not far from `position`."""
        ...

    async def add(self, file: FileRange, records: Sequence[SourceRecord]) -> AddedFile:
        """Store `records` as the chain's next file, unless another stands there; return which one stands, durable."""
        ...


@dataclass(frozen=True, slots=True)
class AddedFile:
    """The file that stands: ours, of so many bytes, or a rival's."""

    range: FileRange
    ours: bool
    size_bytes: int


# --- the queue that bucket notifications arrive in ---


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """One received message: `receipt` deletes it, `message_id` stays the same when it is delivered again."""

    message_id: str
    receipt: str
    body: str


class NotificationQueue(Protocol):
    """A queue that hands out a message again unless it is deleted within the visibility time. Every wait is bounded."""

    async def receive(self) -> Sequence[QueueMessage]:
        """Return up to ten messages; none when nothing came within the long-poll time. Raises QueueUnavailable."""
        ...

    async def delete(self, messages: Sequence[QueueMessage]) -> int:
        """Delete up to ten messages and return how many the queue confirmed. Raises QueueUnavailable."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


# --- console sessions, and the use of API keys, as several API processes share them ---


class Sessions(Protocol):
    """Who is signed in to the console. Every wait is bounded; all of it raises IndexUnavailable."""

    async def put(self, digest: str, session: ConsoleSession) -> None:
        """Keep `session` under the digest of its id until it expires."""
        ...

    async def find(self, digest: str) -> ConsoleSession | None:
        """Return the session, None where it ended, expired or never was."""
        ...

    async def end(self, digest: str) -> None:
        """Forget the session; one that is not there is no error."""
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


class SharedUse(Protocol):
    """Requests of each API key, counted over all API processes."""

    async def add(self, used: Mapping[str, int]) -> dict[str, int]:
        """Add to the counters of keys (by id; also 0) and return what each holds then.

        A counter that nobody adds to for a minute begins anew. Raises IndexUnavailable; some may then have been added.
        """
        ...

    async def close(self) -> None:
        """Release connections."""
        ...


# --- plain Kafka, for command-line services ---


class Producer(Protocol):
    """Publishes outside of a lane (bridge, reconcile, rescore, redrive)."""

    async def send_and_wait(self, topic: str, key: bytes | None, value: bytes) -> Position:
        """Publish one record and return its position after the broker acknowledged it (acks=all, idempotent).

        Raises BrokerUnavailable.
        """
        ...

    async def send_batch(self, records: Sequence[tuple[str, bytes | None, bytes]]) -> None:
        """Publish records (topic, key, value) and return when all are acknowledged. Raises BrokerUnavailable."""
        ...

    async def close(self) -> None:
        """Flush and release connections."""
        ...
