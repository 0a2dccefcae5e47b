"""Exceptions of this project: four kinds, and the kind alone decides how a failure is handled.

    SightlineError
    ├── Retryable   wait, retry, pause the partition: waiting loses nothing
    ├── Poison      a record that does not fit its topic's schema: dead letter with its bytes (never a bad image:
    │               that is the outcome `rejected`)
    ├── Refused     the caller is wrong: the message tells them, nothing was changed
    └── Fatal       the process must end: exit non-zero, the supervisor restarts it

Adapters translate the exceptions of libraries into these. Each docstring tells the operator what to do.
"""

from __future__ import annotations


class SightlineError(Exception):
    """Root of all errors of this project.

    Operator: never raised directly; see the subclasses.
    """


class Retryable(SightlineError):
    """An outside service is unavailable or slow; waiting helps.

    Operator: nothing at first. If it lasts, check the named service. Lag grows, nothing is lost.
    """


class Poison(SightlineError):
    """A record cannot be decoded as a record of its topic.

    Operator: `./sightline dead-letters ls`, fix the producer, then `dead-letters redrive`.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Refused(SightlineError):
    """The caller asked for something that is invalid or not possible; nothing was changed.

    Operator: nothing; the message tells the caller what to correct.
    """


class Fatal(SightlineError):
    """The process cannot continue without the risk of a lost or duplicated outcome.

    Operator: read the message and fix its cause. The process restarts and continues after the last transaction.
    """


class BadReference(Poison):
    """A reference to an object has an invalid bucket, key, version id or ETag.

    Operator: `./sightline dead-letters show` names the field; fix the producer of the events. No request was sent to
    the store.
    """


class ConfigurationError(Fatal):
    """A setting is unknown, missing or invalid; the process did not start.

    Operator: the message names the variable and, if it looks like a typing error, the nearest known name.
    """


class StartupRefused(Fatal):
    """A check at start-up failed: a topic, a schema id, a broker, a store.

    Operator: the message names what is missing and the command that creates it.
    """


class ManifestError(Fatal):
    """A model folder cannot be loaded: invalid manifest, wrong digest, or outputs that differ from the golden set.

    Operator: repair or remove the model folder that the message names; other versions stay usable.
    """


class PolicyError(Fatal):
    """A policy file is invalid; the process did not start.

    Operator: the message names file, line and reason; `./sightline policy check FILE` repeats the check.
    """


class QueryRefused(Refused):
    """A SQL statement cannot be run: it is invalid, not a query, or needs more memory than allowed.

    Operator: the message gives the reason; `./sightline lake tables` lists the columns.
    """


class DeliveryGap(Fatal):
    """The pump got a message that does not follow the previous one.

    Operator: nothing: the process exits and reads again from the committed offset. Report repeated gaps.
    """


class Fenced(Fatal):
    """Another process owns this input partition: its transactional producer fenced the one of this process.

    Operator: nothing after a rebalance or a freeze. If it repeats, one partition was assigned to two workers by hand.
    """


class TransactionFailed(Fatal):
    """A transaction, or the changelog write before it, failed or has an unknown outcome.

    Operator: nothing: the process exits and the records are read again. If it repeats, check the broker's log.
    """


class DeadLetterCeiling(Fatal):
    """Too many dead letters, in a row or as a ratio: more likely a faulty release than bad data.

    Operator: check `dead-letters ls`, roll back or fix the cause, restart. The offsets of the last records are not
    committed.
    """


class StoreUnavailable(Retryable):
    """The endpoint of the object store cannot be reached or answers 5xx to every request.

    Operator: repair the store or the network. The lane waits and lag grows.
    """


class BucketUnavailable(Retryable):
    """Requests to one bucket fail (denied, no such bucket, 503) while the endpoint answers.

    Operator: check that the bucket exists, and its policy. Its uploads are deferred to the retry topics meanwhile.
    """


class NoSuchBucket(BucketUnavailable):
    """The store answered that the bucket does not exist.

    Operator: see BucketUnavailable. An API client that named the bucket gets 404.
    """


class ObjectUnavailable(Retryable):
    """One object cannot be read (5xx, truncated or stalled body) while others can.

    Operator: nothing: the upload is deferred to the retry topics. After the last attempt it becomes a dead letter.
    """


class QueueUnavailable(Retryable):
    """The SQS queue of the bridge cannot be reached or denies access.

    Operator: check SIGHTLINE_SQS_QUEUE_URL and the queue's policy. The bridge waits; the queue keeps its messages.
    """


class BrokerUnavailable(Retryable):
    """Kafka cannot be reached.

    Operator: restore the broker. Workers exit and are restarted until it answers.
    """


class RedisUnavailable(Retryable):
    """Redis cannot be reached, or holds a value that this project did not write.

    Operator: restore Redis; rebuild the index if the message says so. The index agent waits, its lag grows, nothing is
    lost.
    """


class Overloaded(Retryable):
    """The query service refuses a request because accepted requests already fill its capacity.

    Operator: clients retry after `retry_after_seconds`. If it lasts, run more `./sightline api` processes.
    """

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceeded(Retryable):
    """The deadline of a request passed before its picture was scored. The work stops unless other requests need it.

    Operator: nothing for single requests. If it lasts, the machine is too slow for these deadlines.
    """


class ScoringUnavailable(Retryable):
    """The query service cannot score: scoring is off, or the models are still loading or failed to load.

    Operator: for `scoring_off` see SIGHTLINE_API_SCORE; for `models_failed` the log names the model folder to repair.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class LakeUnavailable(Retryable):
    """The Iceberg catalog, its files or Kafka Connect do not answer.

    Operator: restore the catalog, the store or Connect; `./sightline lake status` names the one that fails.
    """


class ArchiveBroken(Fatal):
    """An object in the archive contradicts its name, or belongs to an earlier topic of the same name.

    Operator: check the object that the message names. A topic that was deleted and created again needs a new archive:
    set SIGHTLINE_LAKE_ARCHIVE to another prefix.
    """
