"""All settings: one frozen tree, read once from SIGHTLINE_* variables; docs/configuration.md is generated from it.

The variable of a field is SIGHTLINE_<SECTION>_<FIELD>. An unknown variable with this prefix is an error that names the
nearest known variable. Every number has bounds. Secrets print masked.

Each text of a setting consists of whole sentences. The first says what the setting does; error messages quote it. The
others say what happens if the value is too low or too high.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from app.errors import ConfigurationError

PREFIX: Final = "SIGHTLINE_"
ROOT: Final = Path(__file__).resolve().parents[1]
# Read by the launcher alone, before Python runs.
LAUNCHER_VARIABLES: Final = frozenset({"SIGHTLINE_PYTHON"})


class Secret(str):
    """A string that prints masked. `reveal()` returns its text."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"

    __str__ = __repr__

    def reveal(self) -> str:
        """Return the text, for the call that needs it."""
        return str.__str__(self)


def setting(
    default: Any, doc: str, *, least: float | None = None, most: float | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """Declare a field with its default and the text that documents it.

    `least` and `most` bound a number: with a value outside, the application would hang, or a library would refuse it.
    `choices` are the values that a text may have.
    """
    return field(default=default, metadata={"doc": doc, "least": least, "most": most, "choices": choices})


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """The Kafka brokers and the topics on them."""

    bootstrap: str = setting("127.0.0.1:9092", "Addresses of the Kafka brokers, as a list of host:port.")
    prefix: str = setting(
        "",
        "Text put before the name of every topic and consumer group. Several installations can share a broker"
        " if each has its own prefix.",
    )
    partitions: int = setting(
        8,
        "Partitions of each topic. Scoring topics and changelogs must share this count; it is the largest "
        "number of workers of one agent that can work at the same time.",
        least=1,
    )
    replication: int = setting(
        1,
        "Replication factor of the topics that this application creates. Use 3 in production: with 1 the loss"
        " of a broker loses records.",
        least=1,
    )
    # Brokers refuse shorter and longer sessions (defaults of group.min.session.timeout.ms and group.max.…).
    session_timeout_seconds: float = setting(
        10.0,
        "A worker that sends no heartbeat for this time loses its partitions. Too low: short pauses cause "
        "rebalances. Too high: the partitions of a crashed worker stand still for longer.",
        least=6,
        most=1800,
    )
    rebalance_timeout_seconds: float = setting(
        45.0,
        "The longest time that a rebalance may take. A worker that does not rejoin in this time leaves the "
        "group. It must be at least twice SIGHTLINE_LANE_DRAIN_SECONDS.",
        least=1,
        most=3600,
    )
    request_timeout_seconds: float = setting(
        60.0,
        "The longest wait for the response to a consumer's request. It must exceed the rebalance timeout, "
        "because a request to join a group lasts as long as the rebalance.",
        least=1,
        most=7200,
    )
    # A scan gives up after a minute without progress, so the transaction of a killed worker must end before that.
    transaction_timeout_seconds: float = setting(
        15.0,
        "The broker aborts an open transaction after this time. Too low: transactions of a slow worker are "
        "aborted and the worker restarts. Too high: the open transaction of a crashed worker blocks readers "
        "of its topics for longer.",
        least=1,
        most=50,
    )


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The schema registry (Confluent API)."""

    url: str = setting(
        "",
        "Base address of the schema registry, such as http://127.0.0.1:8081/apis/ccompat/v7. Empty: the "
        "schema ids in schemas/ids.lock are used without comparing them with a registry.",
    )


@dataclass(frozen=True, slots=True)
class S3Settings:
    """The object store, and which uploads are scored."""

    endpoint: str = setting("", "Address of an S3-compatible server. Empty: AWS.")
    region: str = setting("us-east-1", "Region for which requests are signed.")
    access_key: str = setting(
        "", "Access key. Empty: the credentials chain of AWS is used (environment, profile, role of the machine)."
    )
    secret_key: Secret = setting(
        Secret(""), "Secret key that belongs to the access key. Empty: the credentials chain of AWS is used."
    )
    buckets: tuple[str, ...] = setting((), "Score only uploads to these buckets. Empty: uploads to all buckets.")
    prefixes: tuple[str, ...] = setting(
        (), "Score only uploads whose key starts with one of these prefixes. Empty: all keys."
    )
    suffixes: tuple[str, ...] = setting(
        (), "Score only uploads whose key ends with one of these suffixes, in upper or lower case. Empty: all keys."
    )
    excluded_prefixes: tuple[str, ...] = setting(
        (), "Do not score uploads whose key starts with one of these prefixes."
    )
    trust_etag_buckets: tuple[str, ...] = setting(
        (),
        "In these buckets, treat objects with equal ETag and size as equal content and reuse its scores "
        "without a download. This is a risk: if a store gives two contents the same ETag and size, one gets "
        "the scores of the other.",
    )
    concurrency: int = setting(
        32,
        "Objects that one worker downloads at the same time. Too low: downloads limit the throughput. Too "
        "high: the store may throttle.",
        least=1,
    )
    connect_timeout_seconds: float = setting(3.0, "The longest wait for a connection to the store.", least=0.1)
    read_timeout_seconds: float = setting(
        10.0, "A download that receives no byte for this time has stalled and is tried again.", least=0.1
    )
    object_timeout_seconds: float = setting(
        60.0,
        "The longest time for one object, all attempts together. Then the upload is deferred to a retry "
        "topic. Too low: large objects on a slow network never arrive.",
        least=0.1,
    )
    attempts: int = setting(
        3, "Download attempts for one object before the upload is deferred to a retry topic.", least=1
    )
    gone_retry_seconds: float = setting(
        2.0,
        "An object that the store does not find is looked for a second time after this pause; if it is still "
        "missing, the outcome is `gone`. Too low: an object that a lagging replica does not show yet counts "
        "as gone.",
        least=0,
    )


@dataclass(frozen=True, slots=True)
class SqsSettings:
    """The queue that bucket notifications arrive in (`./sightline bridge sqs`)."""

    queue_url: str = setting("", "Address of the queue.")
    endpoint: str = setting("", "Address of an SQS-compatible server. Empty: AWS.")
    wait_seconds: int = setting(
        10,
        "Long-poll time of one receive call. 0 returns at once and costs more requests while the queue is empty.",
        least=0,
        most=20,
    )
    visibility_seconds: int = setting(
        60,
        "A received message stays hidden from other receivers for this time. Too low: messages are delivered "
        "twice, which costs work but does no harm. Too high: messages of a crashed bridge wait for longer.",
        least=1,
        most=43_200,
    )
    receivers: int = setting(
        4, "Receive loops of one bridge. Each takes up to ten messages per call.", least=1, most=64
    )


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """The index of latest outcomes."""

    url: Secret = setting(Secret("redis://127.0.0.1:6379/0"), "Address of Redis, with credentials if it needs them.")
    prefix: str = setting(
        "sightline:",
        "Text put before every key in Redis. Several installations can share a server if each has its own prefix.",
    )
    image_days: float = setting(
        30.0,
        "Days for which the latest outcome of an image is kept after its last change. 0: for ever.",
        least=0,
        most=3650,
    )
    content_days: float = setting(
        30.0, "Days for which the latest scores of a content are kept. 0: for ever.", least=0, most=3650
    )
    tombstone_hours: float = setting(
        24.0,
        "Hours for which the removal of an image is kept (tombstone). It must exceed the longest retry: with "
        "less, a late outcome would bring a removed image back.",
        least=1,
        most=87_600,
    )
    history: int = setting(
        50, "Earlier outcomes that are kept for each image, and as many earlier decisions. 0: none.", least=0, most=1000
    )


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Limits of an image. Beyond them the outcome is `rejected`."""

    # Browsers show a photograph that is followed by tens of megabytes of padding; the limit is far above that.
    max_bytes: int = setting(
        64 * 1024 * 1024,
        "Reject objects with more bytes. Each upload being processed may use this much memory, so a higher "
        "limit lets fewer uploads run at the same time.",
        least=1,
    )
    max_pixels: int = setting(
        64_000_000,
        "Reject pictures with more pixels (width times height). A higher limit needs more "
        "SIGHTLINE_INFERENCE_DECODE_MEMORY_BYTES.",
        least=1,
    )
    max_side: int = setting(65_535, "Reject pictures that are wider or higher than this many pixels.", least=1)
    max_frames: int = setting(
        500, "Reject animations with more frames. How many of them are scored is SIGHTLINE_ENGINE_FRAMES.", least=1
    )
    decode_seconds: float = setting(
        10.0,
        "End a decoder that works on one picture for longer than this, and reject the picture. Too low: large"
        " pictures are rejected on a busy machine. Too high: a hostile picture occupies a decoder for longer.",
        least=0.1,
    )
    max_renditions: int = setting(
        64,
        "Reject images that need more renditions (pictures that the models look at: frames, squares of a long"
        " strip, quadrants, each on up to two grounds). Each decoder shares 1 MiB of memory per rendition.",
        least=1,
        most=512,
    )


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """Models, runtimes and the device."""

    models_dir: Path = setting(ROOT / "models", "Folder of the models, each in <name>/<version>/model.yaml.")
    active: tuple[str, ...] = setting(
        (),
        "Versions of models that run, as a list of name@version. A model that is not named here runs its "
        "newest version.",
    )
    disabled: tuple[str, ...] = setting((), "Names of the models that do not run.")
    runtime: str = setting(
        "auto",
        "Runtime of networks that exist for both. auto: TensorFlow on a GPU and ONNX on a CPU.",
        choices=("auto", "onnx", "tensorflow"),
    )
    device: str = setting(
        "auto",
        "Device on which networks run. auto: a GPU if there is one, else the CPU. gpu: the worker does not "
        "start without a GPU.",
        choices=("auto", "cpu", "gpu"),
    )
    gpu_index: int = setting(0, "Number of the GPU that this worker uses; the first is 0.", least=0)
    mixed_precision: bool = setting(
        False,
        "Compute in float16 on a GPU, which is faster. A model whose scores then differ too much from its "
        "golden scores stops the start.",
    )
    threads: int = setting(
        0,
        "CPU threads of one inference. 0: the number of cores. Too high: threads of several workers compete "
        "for the same cores.",
        least=0,
    )
    decode_processes: int = setting(
        2,
        "Child processes that decode and resize pictures. One more is kept ready to replace a process that "
        "ends. Too low: decoding limits the throughput.",
        least=1,
    )
    decode_memory_bytes: int = setting(
        640 * 1024 * 1024,
        "Memory for all pictures that are being decoded, together. Pictures wait until there is room; a "
        "picture that needs more than all of it is rejected.",
        least=64 * 1024 * 1024,
    )


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Limits of a worker on uploads in progress, and of batches."""

    max_in_flight: int = setting(
        256,
        "Uploads that one worker processes at the same time. Too low: batches stay small. Too high: more work"
        " is repeated after a crash.",
        least=1,
    )
    max_bytes_in_flight: int = setting(
        512 * 1024 * 1024,
        "Upper bound for the bytes of objects that one worker holds in memory at the same time. Uploads wait "
        "until there is room.",
        least=1,
    )
    backfill_in_flight: int = setting(
        64,
        "Uploads of the backfill lane that one worker processes at the same time. Too high: live uploads wait longer.",
        least=1,
    )
    frames: int = setting(
        5,
        "Score at most this many frames of an animation, spread over its length. More frames miss less and cost more.",
        least=1,
        most=64,
    )
    quadrants_from_pixels: int = setting(
        1_000_000,
        "Score also the four quadrants of a picture with at least this many pixels, because small things "
        "disappear when a large picture is resized. 0: never.",
        least=0,
    )
    max_batch: int = setting(
        16,
        "Images in one inference, unless the model's own limit is lower. Too low: a GPU is poorly used. Too "
        "high: each batch takes longer.",
        least=1,
    )
    max_delay_ms: int = setting(
        25,
        "The longest wait for more images after the first image of a batch, unless the model's own limit is "
        "lower. Too high: a quiet stream gets its outcomes later.",
        least=0,
    )


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """Ordered release of results, and when a worker counts as stuck."""

    release_results: int = setting(200, "Upper bound for the results in one transaction.", least=1)
    release_interval_ms: int = setting(
        40,
        "The longest wait for more results before a transaction. Too low: many small transactions load the "
        "broker. Too high: outcomes are published later.",
        least=0,
    )
    drain_seconds: float = setting(
        15.0,
        "Time to finish records in progress at a rebalance or stop. Records that are not finished by then are"
        " processed again. It must be at most half of SIGHTLINE_KAFKA_REBALANCE_TIMEOUT_SECONDS.",
        least=0,
    )
    stall_seconds: float = setting(
        120.0,
        "End the process if a lane has work and makes no progress for this time. Too low: slow work is taken "
        "for a stall. Too high: a stuck worker blocks its partitions for longer.",
        least=2,
    )
    tick_seconds: float = setting(
        15.0,
        "End the process if its event loop is blocked for this time. Too low: a busy machine causes restarts.",
        least=2,
    )
    dead_letter_ratio: float = setting(
        0.5,
        "Stop the worker if a larger share of the last 200 records became dead letters: then the release is "
        "faulty, not the records. 1: never.",
        least=0,
        most=1,
    )
    dead_letter_run: int = setting(100, "Stop the worker if more consecutive records became dead letters.", least=0)
    retries: int = setting(
        3,
        "Attempts after the first, before an upload becomes a dead letter. They come after 30 s, 5 min and 1 "
        "h; each further one after another hour.",
        least=0,
    )


@dataclass(frozen=True, slots=True)
class TableSettings:
    """RocksDB tables of the score agent. A worker's memory pool has these sizes times tables times partitions."""

    block_cache_bytes: int = setting(
        16 * 1024 * 1024,
        "Memory of one partition of one table, memtables included. A worker has one pool for all of its "
        "partitions. Too low: lookups read from the disk.",
        least=65_536,
    )
    write_buffer_bytes: int = setting(
        8 * 1024 * 1024,
        "Upper bound for the memtables of one partition of one table; part of "
        "SIGHTLINE_TABLES_BLOCK_CACHE_BYTES. Too low: many small files are written.",
        least=65_536,
    )
    max_open_files: int = setting(
        128,
        "Open files of one partition of one table. The worker raises its own limit on open files to hold all "
        "of them, and does not start if that is not allowed.",
        least=20,
    )
    # Input topics keep records for seven days, so a repeat can be read seven days later.
    claims_days: float = setting(
        14.0,
        "Days for which claims are kept. They must be kept for longer than S3 or Kafka may repeat an upload "
        "event: with less, a repeated upload gets a second outcome.",
        least=7,
        most=3650,
    )
    contents_days: float = setting(
        90.0,
        "Days for which the scores of a content are kept. An upload of the same content in this time needs no"
        " inference. Too high: the tables and their changelogs grow.",
        least=0.1,
        most=3650,
    )
    embeddings_days: float = setting(
        2.0,
        "Days for which embeddings are kept. In this time a new head scores a content without its pixels. "
        "Embeddings are large: each day costs disk space.",
        least=0.1,
        most=3650,
    )


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """The moderation rules."""

    path: Path = setting(ROOT / "policies" / "default.yaml", "The policy file (moderation rules).")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """One worker process."""

    id: str = setting(
        "",
        "Stable name of this worker. It finds its tables under this name after a restart. Empty: host name, "
        "agent and the first free number.",
    )
    data_dir: Path = setting(
        ROOT / "var" / "worker", "Folder for tables on the local disk. Each worker has its own folder below it."
    )
    http_host: str = setting("127.0.0.1", "Address on which the worker serves /metrics and /healthz.")
    http_port: int = setting(
        0,
        "Port on which the worker serves /metrics and /healthz. 0: a free port, which the worker logs.",
        least=0,
        most=65_535,
    )
    log_level: str = setting(
        "info", "Log messages of this level and above.", choices=("debug", "info", "warning", "error")
    )
    log_format: str = setting("text", "Format of log lines.", choices=("text", "json"))


@dataclass(frozen=True, slots=True)
class LakeSettings:
    """Iceberg tables on S3, which Kafka Connect writes, and the archive of Parquet files.

    Both are in the object store of the section `s3`. Objects below them are never taken for uploads.
    """

    catalog: str = setting("sqlite", "Kind of Iceberg catalog.", choices=("sqlite", "rest", "glue"))
    catalog_uri: str = setting(
        "",
        "Address of the catalog. sqlite: path of its file (empty: a file below var/stack). rest: address of "
        "the server. glue: address of a Glue-compatible server (empty: AWS).",
    )
    warehouse: str = setting("s3://lake/warehouse", "Folder of the tables in the object store, as s3://bucket/prefix.")
    archive: str = setting("s3://lake/archive", "Folder of the archive in the object store, as s3://bucket/prefix.")
    namespace: str = setting("sightline", "Namespace of the tables in the catalog (Glue: database).")
    connect_url: str = setting("http://127.0.0.1:8083", "Address of Kafka Connect's REST interface.")
    commit_seconds: float = setting(
        300.0,
        "Time between two commits of a table. Too low: many small files and snapshots, which slow down "
        "queries. Too high: rows appear later.",
        least=1,
        most=86_400,
    )
    commit_timeout_seconds: float = setting(
        120.0,
        "The longest time that a commit waits for the tasks of its connector. It must exceed the interval at "
        "which Connect flushes offsets (5 s in deploy/connect/worker.properties).",
        least=1,
        most=3600,
    )
    tasks: int = setting(2, "Tasks of each connector. More tasks than partitions bring nothing.", least=1, most=64)
    target_file_bytes: int = setting(128 * 1024 * 1024, "Size of the files that `lake compact` writes.", least=1024)
    snapshot_days: float = setting(
        5.0,
        "`lake expire` keeps snapshots that are younger than this many days. Only a snapshot that is kept can"
        " be queried with `--at`.",
        least=0,
        most=3650,
    )
    orphan_hours: float = setting(
        24.0,
        "`lake gc` keeps unreferenced files that are younger than this many hours, because a commit that is "
        "not finished may refer to them. Too low: files of a running commit are deleted.",
        least=0,
        most=87_600,
    )
    sql_memory_bytes: int = setting(
        2 * 1024 * 1024 * 1024,
        "Memory that `lake sql` may use. Beyond it, intermediate results go to the disk.",
        least=64 * 1024 * 1024,
    )
    sql_threads: int = setting(0, "Threads of `lake sql`. 0: the number of cores.", least=0, most=256)

    @property
    def behind_seconds(self) -> float:
        """Age up to which a record may be without its row: three commit intervals and the longest commit."""
        return 3 * self.commit_seconds + self.commit_timeout_seconds


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """The agent `archive`: raw records of topics as Parquet files below SIGHTLINE_LAKE_ARCHIVE."""

    topics: tuple[str, ...] = setting(
        ("image.predictions.v1",),
        "Topics that are archived. Possible are image.predictions.v1, image.flagged.v1, "
        "moderation.decisions.v1, image.removed.v1 and image.embeddings.v1.",
    )
    file_records: int = setting(10_000, "Close a file after this many records.", least=1, most=1_000_000)
    file_bytes: int = setting(
        32 * 1024 * 1024, "Close a file after this many bytes of keys and values.", least=1024, most=512 * 1024 * 1024
    )
    # The records of an open file are not committed: after a restart they are read again.
    file_seconds: float = setting(
        300.0,
        "Close a file this long after its first record. Too low: many small files. Too high: more records are"
        " read again after a restart, because a file's records are acknowledged when it is closed.",
        least=0.1,
        most=3600,
    )
    # A record in memory costs about 3.5 KB besides its bytes (its task in the lane): 40,000 of 1.5 KB take 200 MB. Only
    # an agent that catches up holds half of them. Measured with records of 700 bytes: 290 MiB for the whole process.
    in_flight: int = setting(
        40_000,
        "Upper bound for the records of one topic that a worker holds in memory. When half of them wait in "
        "open files, the largest file is closed.",
        least=2,
    )


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The query service (`./sightline api`) and its console."""

    host: str = setting("127.0.0.1", "Address on which the query service listens.")
    port: int = setting(
        8080, "Port on which the query service listens. 0: a free port, which the service logs.", least=0, most=65_535
    )
    score: bool = setting(True, "Load the models and offer POST /v1/score.")
    score_in_flight: int = setting(
        32,
        "Pictures that are scored at the same time. Further requests are refused with 429 at once, so that "
        "accepted requests stay fast.",
        least=1,
    )
    max_body_bytes: int = setting(10 * 1024 * 1024, "Largest picture that POST /v1/score accepts.", least=1024)
    body_bytes_in_flight: int = setting(
        256 * 1024 * 1024,
        "Upper bound for the bytes of all request bodies in memory. Further requests wait for two seconds and"
        " are then refused with 429.",
        least=1024,
    )
    rate_per_second: float = setting(
        1000.0,
        "Requests per second of one API key, unless the key has its own rate. Further requests are refused with 429.",
        least=0.1,
    )
    max_wait_seconds: float = setting(30.0, "Longest time that a client may request with `?wait=`.", least=0, most=300)
    max_streams: int = setting(
        100, "Subscribers of /v1/stream/flagged at the same time. Further ones are refused with 429.", least=1
    )
    explain_seconds: float = setting(
        10.0,
        "The longest time for which /explain reads the topics. An explanation that needs longer is incomplete"
        " and says so.",
        least=1,
        most=300,
    )
    preview_seconds: float = setting(
        60.0, "Time for which the service and browsers may cache a preview. 0: not at all.", least=0, most=3600
    )
    access_log: str = setting(
        "failed",
        "Requests that are logged: those answered with status 400 or above (failed), all, or none.",
        choices=("failed", "all", "none"),
    )
    session_hours: float = setting(
        12.0, "A console session ends after this many hours; the moderator signs in again.", least=0.01, most=720
    )
    secure_cookies: bool = setting(
        False,
        "Send session cookies over HTTPS only. Set it to true behind a TLS proxy; with plain HTTP nobody can "
        "sign in then.",
    )
    cors_origins: tuple[str, ...] = setting((), "Web origins whose pages may call the API. Empty: none.")


@dataclass(frozen=True, slots=True)
class ModerationSettings:
    """The queue of flagged images that people decide on."""

    actions: tuple[str, ...] = setting(
        ("notify", "review", "block"),
        "Actions of flags that wait for a moderator. Images flagged with other actions do not enter the "
        "moderation queue.",
    )
    lease_seconds: float = setting(
        60.0,
        "An image is reserved for one moderator for this time, unless the lease is renewed. Too low: two "
        "moderators decide on the same image. Too high: images that a moderator left wait for longer.",
        least=5,
        most=3600,
    )
    skip_hours: float = setting(
        24.0,
        "An image that a moderator skipped is not offered to the same moderator for this many hours.",
        least=0,
        most=720,
    )


@dataclass(frozen=True, slots=True)
class StackSettings:
    """The local stack of real servers."""

    var_dir: Path = setting(ROOT / "var", "Folder for data, logs and downloads of the local stack.")
    s3: str = setting("ministack", "The S3 server of the local stack.", choices=("ministack", "versitygw"))


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole tree of settings."""

    kafka: KafkaSettings = field(default_factory=KafkaSettings)
    registry: RegistrySettings = field(default_factory=RegistrySettings)
    s3: S3Settings = field(default_factory=S3Settings)
    sqs: SqsSettings = field(default_factory=SqsSettings)
    redis: RedisSettings = field(default_factory=RedisSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    inference: InferenceSettings = field(default_factory=InferenceSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    lane: LaneSettings = field(default_factory=LaneSettings)
    tables: TableSettings = field(default_factory=TableSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    worker: WorkerSettings = field(default_factory=WorkerSettings)
    lake: LakeSettings = field(default_factory=LakeSettings)
    archive: ArchiveSettings = field(default_factory=ArchiveSettings)
    api: ApiSettings = field(default_factory=ApiSettings)
    moderation: ModerationSettings = field(default_factory=ModerationSettings)
    stack: StackSettings = field(default_factory=StackSettings)


_KIND_NAMES: Final[Mapping[Any, str]] = {
    bool: "switch",
    int: "whole number",
    float: "number",
    str: "text",
    Path: "path",
    Secret: "secret",
}


@dataclass(frozen=True, slots=True)
class SettingRow:
    """One variable: its name, type, default, text and allowed values."""

    variable: str
    section: str
    name: str
    kind: Any
    default: Any
    doc: str
    least: float | None
    most: float | None
    choices: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """Allowed values in words: the bounds of a number, the choices of a text, else empty."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.least is None:
            return ""
        return f"{self.least:.15g} or more" if self.most is None else f"{self.least:.15g} to {self.most:.15g}"

    @property
    def summary(self) -> str:
        """First sentence of the text, without its full stop."""
        return re.split(r"\.(?:\s|$)", self.doc, maxsplit=1)[0]

    @property
    def kind_name(self) -> str:
        """Type in words."""
        if typing.get_origin(self.kind) is tuple:
            return "list"
        return _KIND_NAMES[self.kind]


def setting_rows() -> Iterator[SettingRow]:
    """Yield every variable in the order of the tree."""
    for section_name, section in typing.get_type_hints(Settings).items():
        hints = typing.get_type_hints(section)
        for part in dataclasses.fields(section):
            variable = f"{PREFIX}{section_name}_{part.name}".upper()
            yield SettingRow(variable, section_name, part.name, hints[part.name], part.default, **part.metadata)


def load_settings(environment: Mapping[str, str]) -> Settings:
    """Return the tree that `environment` describes.

    Reads only its argument. Raises ConfigurationError for an unknown SIGHTLINE_* variable (with the nearest known
    name), for a value of the wrong type or out of bounds, and for values that contradict each other.
    """
    rows = {row.variable: row for row in setting_rows()}
    given: dict[str, dict[str, Any]] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX) or variable in LAUNCHER_VARIABLES:
            continue
        row = rows.get(variable)
        if row is None:
            near = difflib.get_close_matches(variable, rows, n=1, cutoff=0.0)
            raise ConfigurationError(f"unknown setting {variable}; did you mean {near[0]}?")
        given.setdefault(row.section, {})[row.name] = _parse(row, text)
    sections = {name: section(**given.get(name, {})) for name, section in typing.get_type_hints(Settings).items()}
    settings = Settings(**sections)
    _check(settings)
    return settings


def _parse(row: SettingRow, text: str) -> Any:
    """Return the value of one variable. Raises ConfigurationError with the allowed values."""
    try:
        if row.kind is bool:
            return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[text.lower()]
        if typing.get_origin(row.kind) is tuple:
            return tuple(part.strip() for part in text.split(",") if part.strip())
        value = row.kind(text)
    except (ValueError, KeyError) as error:
        raise _refused(row, text) from error
    if row.choices and value not in row.choices:
        raise _refused(row, text)
    # Comparisons with nan are always false, so nan and infinity are refused first.
    if row.kind in (int, float) and not (
        math.isfinite(value) and (row.least is None or value >= row.least) and (row.most is None or value <= row.most)
    ):
        raise _refused(row, text)
    return value


def _refused(row: SettingRow, text: str) -> ConfigurationError:
    match row.kind_name, row.allowed:
        case "switch", _:
            wanted = "true or false"
        case kind, "":
            wanted = f"a {kind}"
        case "text", allowed:
            wanted = allowed
        case kind, allowed:
            wanted = f"a {kind}, {allowed}"
    return ConfigurationError(f"{row.variable}={text!r} must be {wanted} ({row.summary})")


def _check(settings: Settings) -> None:
    """Refuse values that contradict each other. Each message names the variables, their values and the rule."""
    kafka, lane, tables = settings.kafka, settings.lane, settings.tables
    if kafka.request_timeout_seconds <= kafka.rebalance_timeout_seconds:
        raise ConfigurationError(
            f"SIGHTLINE_KAFKA_REQUEST_TIMEOUT_SECONDS={kafka.request_timeout_seconds:g} must exceed "
            f"SIGHTLINE_KAFKA_REBALANCE_TIMEOUT_SECONDS={kafka.rebalance_timeout_seconds:g}: "
            "otherwise a slow join would time out and start again for ever"
        )
    if kafka.session_timeout_seconds > kafka.request_timeout_seconds:
        raise ConfigurationError(
            f"SIGHTLINE_KAFKA_SESSION_TIMEOUT_SECONDS={kafka.session_timeout_seconds:g} must be at most "
            f"SIGHTLINE_KAFKA_REQUEST_TIMEOUT_SECONDS={kafka.request_timeout_seconds:g}"
        )
    if lane.drain_seconds * 2 > kafka.rebalance_timeout_seconds:
        raise ConfigurationError(
            f"SIGHTLINE_LANE_DRAIN_SECONDS={lane.drain_seconds:g} must be at most half of "
            f"SIGHTLINE_KAFKA_REBALANCE_TIMEOUT_SECONDS={kafka.rebalance_timeout_seconds:g}"
        )
    # Each retry may wait an hour. When its outcome arrives, the tombstone must still show that the image was removed.
    if settings.redis.tombstone_hours <= lane.retries:
        raise ConfigurationError(
            f"SIGHTLINE_REDIS_TOMBSTONE_HOURS={settings.redis.tombstone_hours:g} must exceed "
            f"SIGHTLINE_LANE_RETRIES={lane.retries}, because each retry may take an hour"
        )
    for name in ("warehouse", "archive"):
        address = getattr(settings.lake, name)
        # A prefix is required: objects below it are not scored, and without one no image of the bucket would be.
        if not re.fullmatch(r"s3://[^/]+/[^/].*", address):
            raise ConfigurationError(f"SIGHTLINE_LAKE_{name.upper()}={address!r} must be s3://bucket/prefix")
    if tables.write_buffer_bytes > tables.block_cache_bytes:
        raise ConfigurationError(
            f"SIGHTLINE_TABLES_WRITE_BUFFER_BYTES={tables.write_buffer_bytes} must be at most "
            f"SIGHTLINE_TABLES_BLOCK_CACHE_BYTES={tables.block_cache_bytes}, of which it is a part"
        )
