"""Every failure is one of three kinds; what may be done about it depends on the kind alone.

    SightlineError
    ├── Retryable   wait, try again, pause the partition: nothing is lost by waiting
    ├── Poison      a record that cannot be read as what its topic holds: dead letter with its bytes (never a bad image:
    │               that is the outcome `rejected`)
    └── Fatal       the process must not go on: exit non-zero, the restarter brings it back

Adapters translate foreign exceptions into these at their own border. Each docstring tells the operator what to do.
"""

from __future__ import annotations


class SightlineError(Exception):
    """Root of all errors of this project.

    Operator: never raised itself; see the subclasses.
    """


class Retryable(SightlineError):
    """Something outside is away or slow, and waiting helps.

    Operator: nothing at first; when it lasts, look at the named service. Lag grows, nothing is lost.
    """


class Poison(SightlineError):
    """A record cannot be read as what its topic holds.

    Operator: `./sightline dead-letters ls`, mend the producer, then `dead-letters redrive`.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail


class Fatal(SightlineError):
    """The process cannot go on without risking a lost or doubled outcome.

    Operator: read the sentence, mend its cause; the process restarts and reads again from the last transaction.
    """


class BadReference(Poison):
    """An object is named by what no request may carry: a bucket, key, version id or ETag against the rules.

    Operator: `./sightline dead-letters show` says which field; mend the producer of the events. Nothing was asked of
    the store.
    """


class ConfigurationError(Fatal):
    """A setting is unknown, missing or wrong; the process did not start.

    Operator: the message names the variable and, where one is close, the name that was meant.
    """


class StartupRefused(Fatal):
    """A check before the start failed: a topic, a schema id, a broker, a store.

    Operator: the message says what is missing and the command that makes it.
    """


class ManifestError(Fatal):
    """A model folder cannot be loaded: bad manifest, wrong digest, or outputs that moved from the golden set.

    Operator: mend or remove the model folder that the message names; other versions stay usable.
    """


class PolicyError(Fatal):
    """A policy file is wrong; the process did not start.

    Operator: the message names file, line and reason; `./sightline policy check FILE` repeats it.
    """


class QueryRefused(Fatal):
    """A SQL statement cannot be run: wrong, not a query, or larger than the memory it may have.

    Operator: the message says what is wrong with it; `./sightline lake tables` names the columns.
    """


class DeliveryGap(Fatal):
    """The pump was handed a message that does not follow the one before it.

    Operator: nothing: the process exits and reads again from the committed offset. Repeated gaps: report them.
    """


class Fenced(Fatal):
    """Another process owns this input partition (its transactional producer fenced ours).

    Operator: nothing after a rebalance or a freeze; if it repeats, two workers were given one
    partition by hand.
    """


class TransactionFailed(Fatal):
    """A transaction, or the changelog write before it, did not end with a clear success.

    Operator: nothing: the process exits and the records are read again. If it repeats, look at the broker's log.
    """


class DeadLetterCeiling(Fatal):
    """Too many dead letters in a row or in proportion: more likely a bad deploy than bad data.

    Operator: look at `dead-letters ls`, roll back or mend, restart; the offsets of the last records are not committed.
    """


class Stalled(Fatal):
    """A lane said that it works and stood still past its deadline, or the event loop did not tick.

    Operator: nothing at first: the process exits and restarts. If it repeats, the log names the lane and its
    oldest upload.
    """


class StoreUnavailable(Retryable):
    """The object store as an endpoint cannot be reached or answers 5xx to everything.

    Operator: mend the store or the network; the lane waits and lag grows.
    """


class BucketUnavailable(Retryable):
    """One bucket fails (denied, gone, 503) while the endpoint answers.

    Operator: check the bucket's policy and existence; its uploads are deferred to the retry topics meanwhile.
    """


class NoSuchBucket(BucketUnavailable):
    """There is no bucket of this name: said by the store itself.

    Operator: as for BucketUnavailable. An API client that named it is told 404.
    """


class ObjectUnavailable(Retryable):
    """One object cannot be read (5xx, cut-off or stalled body) while its neighbours can.

    Operator: nothing: it is deferred to the retry topics and becomes a dead letter when all attempts are used up.
    """


class QueueUnavailable(Retryable):
    """The SQS queue of the bridge cannot be reached, or refuses.

    Operator: check SIGHTLINE_SQS_QUEUE_URL and the queue's policy; the bridge waits and the queue keeps its messages.
    """


class BrokerUnavailable(Retryable):
    """Kafka cannot be reached.

    Operator: bring the broker back; workers exit and are restarted until it answers.
    """


class IndexUnavailable(Retryable):
    """Redis cannot be reached.

    Operator: bring Redis back; the index agent waits, its lag grows, nothing is lost.
    """


class Overloaded(Retryable):
    """The query service has as much work in hand as it can do in time; what it took on is not slowed down for more.

    Operator: clients come again after `retry_after_seconds`; when it lasts, run more `./sightline api` processes.
    """

    def __init__(self, detail: str, retry_after_seconds: int) -> None:
        super().__init__(detail)
        self.retry_after_seconds = retry_after_seconds


class DeadlineExceeded(Retryable):
    """A caller's deadline passed before its picture was scored; the work was given up unless others wait for it.

    Operator: nothing for single ones; when it lasts, the machine is too small for these deadlines.
    """


class ScoringUnavailable(Retryable):
    """The query service has no models to score with: switched off, still loading, or broken.

    Operator: `scoring_off` is SIGHTLINE_API_SCORE; `models_failed` is in the log with the folder to mend.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


class LakeUnavailable(Retryable):
    """The Iceberg catalog, its files or Kafka Connect do not answer.

    Operator: bring the catalog, the store or Connect back; `./sightline lake status` says which.
    """


class ArchiveBroken(Fatal):
    """What lies in the archive is not what its name says, or is of another topic of that name.

    Operator: look at the object that the message names. A topic that was made anew needs an archive of its own: set
    SIGHTLINE_LAKE_ARCHIVE to another prefix.
    """
