"""All settings: one frozen tree, read once from SIGHTLINE_* variables; docs/configuration.md is generated from it.

The variable of a field is SIGHTLINE_<SECTION>_<FIELD>. An unknown variable with our prefix is an error that names the
nearest one; every number says from where to where it works; secrets print masked.
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
    """A string that prints masked; `reveal()` gives it."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'" if self else "''"

    __str__ = __repr__

    def reveal(self) -> str:
        """Return the secret itself, for the one call that needs it."""
        return str.__str__(self)


def setting(
    default: Any, doc: str, *, least: float | None = None, most: float | None = None, choices: tuple[str, ...] = ()
) -> Any:
    """Declare a field with its default and the line that documents it.

    `least` and `most` bound a number (a value below or above would hang, or be refused by what it is handed to);
    `choices` are the only words that a text may be.
    """
    return field(default=default, metadata={"doc": doc, "least": least, "most": most, "choices": choices})


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """The broker, and how our topics lie on it."""

    bootstrap: str = setting("127.0.0.1:9092", "host:port list of the brokers")
    prefix: str = setting("", "put before every topic and group name; lets several installations share a broker")
    partitions: int = setting(
        8, "partitions of each topic; all scoring topics and changelogs share this count", least=1
    )
    replication: int = setting(1, "replication factor of topics that we create (3 in production)", least=1)
    # Brokers refuse shorter and longer sessions (group.min.session.timeout.ms and its max, as they come).
    session_timeout_seconds: float = setting(
        10.0, "a worker silent for so long loses its partitions", least=6, most=1800
    )
    rebalance_timeout_seconds: float = setting(45.0, "how long a rebalance may take", least=1, most=3600)
    request_timeout_seconds: float = setting(
        60.0, "of consumer requests; must exceed the rebalance timeout", least=1, most=7200
    )
    # A scan gives up on a partition that stands still for a minute: it must outwait what a killed worker left open.
    transaction_timeout_seconds: float = setting(
        15.0, "a killed worker's open transaction blocks readers so long", least=1, most=50
    )


@dataclass(frozen=True, slots=True)
class RegistrySettings:
    """The schema registry (Confluent API)."""

    url: str = setting("", "base address such as http://127.0.0.1:8081/apis/ccompat/v7; empty: ids.lock is not checked")


@dataclass(frozen=True, slots=True)
class S3Settings:
    """The object store, and which uploads are ours."""

    endpoint: str = setting("", "address of an S3-compatible server; empty: AWS")
    region: str = setting("us-east-1", "region that requests are signed for")
    access_key: str = setting("", "access key; empty: the usual credentials chain")
    secret_key: Secret = setting(Secret(""), "secret key; empty: the usual credentials chain")
    buckets: tuple[str, ...] = setting((), "only these buckets (comma list); empty: all")
    prefixes: tuple[str, ...] = setting((), "only keys that start so (comma list); empty: all")
    suffixes: tuple[str, ...] = setting((), "only keys that end so, case ignored (comma list); empty: all")
    excluded_prefixes: tuple[str, ...] = setting((), "never keys that start so (comma list)")
    trust_etag_buckets: tuple[str, ...] = setting((), "buckets whose equal ETag and size count as equal bytes (risky)")
    concurrency: int = setting(32, "objects being fetched at once by one worker", least=1)
    connect_timeout_seconds: float = setting(3.0, "to connect", least=0.1)
    read_timeout_seconds: float = setting(10.0, "without a byte, before a body counts as stalled", least=0.1)
    object_timeout_seconds: float = setting(60.0, "for one object in all, retries included", least=0.1)
    attempts: int = setting(3, "GETs of one object before it is deferred", least=1)
    gone_retry_seconds: float = setting(2.0, "one delayed second look before a missing object counts as gone", least=0)


@dataclass(frozen=True, slots=True)
class SqsSettings:
    """The queue that bucket notifications arrive in (`./sightline bridge sqs`)."""

    queue_url: str = setting("", "address of the queue")
    endpoint: str = setting("", "address of an SQS-compatible server; empty: AWS")
    wait_seconds: int = setting(10, "long-poll time of one receive", least=0, most=20)
    visibility_seconds: int = setting(
        60, "how long a received message stays hidden from other receivers", least=1, most=43_200
    )
    receivers: int = setting(4, "receive loops of one bridge; each takes ten messages at a time", least=1, most=64)


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """The index of latest outcomes."""

    url: Secret = setting(Secret("redis://127.0.0.1:6379/0"), "address, with credentials when needed")
    prefix: str = setting("sightline:", "put before every key")
    image_days: float = setting(
        30.0, "latest outcome per image is kept so long after its last change; 0: for ever", least=0, most=3650
    )
    content_days: float = setting(30.0, "latest scores per content are kept so long; 0: for ever", least=0, most=3650)
    tombstone_hours: float = setting(
        24.0, "a removal is remembered so long; must exceed the longest retry", least=1, most=87_600
    )
    history: int = setting(50, "earlier outcomes of one image that are kept, and as many decisions", least=0, most=1000)


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """What an image may be; beyond it the outcome is `rejected`."""

    # Browsers show a photograph with tens of megabytes of nothing behind it; so the limit is well above photographs.
    max_bytes: int = setting(64 * 1024 * 1024, "object size in bytes", least=1)
    max_pixels: int = setting(64_000_000, "width times height of what is decoded", least=1)
    max_side: int = setting(65_535, "width or height of what is decoded, pixels", least=1)
    max_frames: int = setting(500, "frames of an animation", least=1)
    decode_seconds: float = setting(10.0, "kill a decoder that works on one image for longer than this", least=0.1)
    max_renditions: int = setting(
        64, "parts, frames and grounds of one image that models look at; with more it is rejected", least=1, most=512
    )


@dataclass(frozen=True, slots=True)
class InferenceSettings:
    """Models, runtimes and the device."""

    models_dir: Path = setting(ROOT / "models", "folder of <name>/<version>/model.yaml")
    active: tuple[str, ...] = setting((), "name@version list; a model not named runs its newest version")
    disabled: tuple[str, ...] = setting((), "names of models that do not run")
    runtime: str = setting("auto", "for networks that exist in both", choices=("auto", "onnx", "tensorflow"))
    device: str = setting("auto", "where networks run", choices=("auto", "cpu", "gpu"))
    gpu_index: int = setting(0, "which GPU this worker uses", least=0)
    mixed_precision: bool = setting(False, "float16 on a GPU; the golden check still decides")
    threads: int = setting(0, "threads of one inference; 0: the number of cores", least=0)
    decode_processes: int = setting(2, "child processes that decode and resize; one more is kept ready", least=1)
    decode_memory_bytes: int = setting(
        640 * 1024 * 1024,
        "memory for pictures being decoded, all together; a picture that needs more is rejected",
        least=64 * 1024 * 1024,
    )


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """Bounds of the engine and of a lane."""

    max_in_flight: int = setting(256, "uploads in hand in one worker", least=1)
    max_bytes_in_flight: int = setting(512 * 1024 * 1024, "bytes of objects and pixels in hand in one worker", least=1)
    backfill_in_flight: int = setting(64, "uploads of the backfill lane in hand in one worker", least=1)
    frames: int = setting(5, "score at most this many frames of an animation", least=1, most=64)
    quadrants_from_pixels: int = setting(
        1_000_000,
        "look also at the four quadrants of pictures with at least this many pixels; 0: never",
        least=0,
    )
    max_batch: int = setting(16, "images in one inference, below a model's own limit", least=1)
    max_delay_ms: int = setting(25, "wait for a fuller batch after its first image", least=0)


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """Ordered release of results, and when a lane counts as stuck."""

    release_results: int = setting(200, "results in one transaction at most", least=1)
    release_interval_ms: int = setting(40, "wait for more results before a transaction", least=0)
    drain_seconds: float = setting(
        15.0, "time to finish open work at a rebalance or stop; the rest is done again", least=0
    )
    stall_seconds: float = setting(120.0, "a lane that works without progress so long ends the process", least=2)
    tick_seconds: float = setting(15.0, "an event loop that does not tick so long ends the process", least=2)
    dead_letter_ratio: float = setting(
        0.5, "dead letters among the last 200 records at most, else the worker stops", least=0, most=1
    )
    dead_letter_run: int = setting(100, "dead letters one after another at most, else the worker stops", least=0)
    retries: int = setting(3, "attempts after the first (30 s, 5 min, 1 h), then a dead letter", least=0)


@dataclass(frozen=True, slots=True)
class TableSettings:
    """RocksDB tables of the score agent; memory is one pool, of this size times tables times partitions."""

    block_cache_bytes: int = setting(
        16 * 1024 * 1024, "cache of one table partition, memtables included; one pool", least=65_536
    )
    write_buffer_bytes: int = setting(8 * 1024 * 1024, "of it, memtables of one table partition at most", least=65_536)
    max_open_files: int = setting(
        128, "open files of one table partition; the process raises its limit to hold all", least=20
    )
    # Input is kept for seven days: so late can a repeat be read.
    claims_days: float = setting(
        14.0, "claims are kept so long: longer than any repeat or retry of S3 or Kafka", least=7, most=3650
    )
    contents_days: float = setting(90.0, "scores per content are kept so long", least=0.1, most=3650)
    embeddings_days: float = setting(2.0, "embeddings are kept so long", least=0.1, most=3650)


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """Moderation rules."""

    path: Path = setting(ROOT / "policies" / "default.yaml", "the policy file")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """One process."""

    id: str = setting("", "stable name of this worker; empty: host name and a free slot")
    data_dir: Path = setting(ROOT / "var" / "worker", "folder for tables; one per worker below it")
    http_host: str = setting("127.0.0.1", "address of /metrics and /healthz")
    http_port: int = setting(0, "their port; 0: a free one, said in the log", least=0, most=65_535)
    log_level: str = setting("info", "what is logged", choices=("debug", "info", "warning", "error"))
    log_format: str = setting("text", "form of a log line", choices=("text", "json"))


@dataclass(frozen=True, slots=True)
class LakeSettings:
    """Iceberg tables on S3, which Kafka Connect writes, and the archive of Parquet files.

    They lie in the object store of the section `s3`. What lies there is never taken for an upload.
    """

    catalog: str = setting("sqlite", "kind of Iceberg catalog", choices=("sqlite", "rest", "glue"))
    catalog_uri: str = setting(
        "", "sqlite: path of its file (empty: below var/stack); rest: address; glue: address where it is not AWS"
    )
    warehouse: str = setting("s3://lake/warehouse", "where the tables lie: s3://bucket/prefix")
    archive: str = setting("s3://lake/archive", "where the archive lies: s3://bucket/prefix")
    namespace: str = setting("sightline", "namespace (Glue: database) of the tables")
    connect_url: str = setting("http://127.0.0.1:8083", "address of Kafka Connect's REST interface")
    commit_seconds: float = setting(300.0, "between two commits of a table", least=1, most=86_400)
    commit_timeout_seconds: float = setting(
        120.0, "a commit waits so long for its tasks; must exceed their offset flush", least=1, most=3600
    )
    tasks: int = setting(2, "tasks of each connector", least=1, most=64)
    target_file_bytes: int = setting(128 * 1024 * 1024, "size of a file after `lake compact`", least=1024)
    snapshot_days: float = setting(5.0, "snapshots younger than this stay at `lake expire`", least=0, most=3650)
    orphan_hours: float = setting(
        24.0, "unreferenced files younger than this stay at `lake gc`: a commit may be under way", least=0, most=87_600
    )
    sql_memory_bytes: int = setting(
        2 * 1024 * 1024 * 1024, "`lake sql` takes at most so much memory, then the disk", least=64 * 1024 * 1024
    )
    sql_threads: int = setting(0, "threads of `lake sql`; 0: the number of cores", least=0, most=256)

    @property
    def behind_seconds(self) -> float:
        """How old a record without its row may be: three commit intervals, and one commit that took all its time."""
        return 3 * self.commit_seconds + self.commit_timeout_seconds


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """The agent `archive`: raw records of topics as Parquet files below SIGHTLINE_LAKE_ARCHIVE."""

    topics: tuple[str, ...] = setting(
        ("image.predictions.v1",),
        "topics that are archived (comma list): image.predictions.v1, image.flagged.v1, moderation.decisions.v1, "
        "image.removed.v1, image.embeddings.v1",
    )
    file_records: int = setting(10_000, "a file is closed with so many records", least=1, most=1_000_000)
    file_bytes: int = setting(
        32 * 1024 * 1024, "or with so many bytes of keys and values", least=1024, most=512 * 1024 * 1024
    )
    # While a file fills its records are not committed: after a restart so much is read again.
    file_seconds: float = setting(300.0, "or so long after its first record came", least=0.1, most=3600)
    # A record in hand costs some 3.5 KB beside its bytes (its task in the lane): 40,000 of 1.5 KB would be 200 MB. Only
    # an agent that catches up has half of them in hand; measured so, with records of 700 bytes: 290 MiB in all.
    in_flight: int = setting(
        40_000, "records of one topic in hand in one worker; with half of them the largest file is closed", least=2
    )


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """The query service (`./sightline api`) and its console."""

    host: str = setting("127.0.0.1", "address that it listens on")
    port: int = setting(8080, "its port; 0: a free one, said in the log", least=0, most=65_535)
    score: bool = setting(True, "also loads the models, for POST /v1/score")
    score_in_flight: int = setting(
        32, "pictures being computed at once; more are refused with 429 before they make the others wait", least=1
    )
    max_body_bytes: int = setting(10 * 1024 * 1024, "largest picture that POST /v1/score takes", least=1024)
    body_bytes_in_flight: int = setting(
        256 * 1024 * 1024, "bytes of bodies in hand; more wait, then are refused with 429", least=1024
    )
    rate_per_second: float = setting(1000.0, "requests of one API key, unless the key says otherwise", least=0.1)
    max_wait_seconds: float = setting(30.0, "longest `?wait=`", least=0, most=300)
    max_streams: int = setting(100, "subscribers of /v1/stream/flagged at once", least=1)
    explain_seconds: float = setting(10.0, "for how long /explain reads the topics at most", least=1, most=300)
    preview_seconds: float = setting(60.0, "a browser may show a preview again so long", least=0, most=3600)
    access_log: str = setting(
        "failed",
        "which requests get a line in the log: those answered with 400 and above, all or none",
        choices=("failed", "all", "none"),
    )
    session_hours: float = setting(12.0, "a console session ends after so long", least=0.01, most=720)
    secure_cookies: bool = setting(False, "session cookies over HTTPS only; set it behind a TLS proxy")
    cors_origins: tuple[str, ...] = setting((), "web origins that may call the API (comma list); empty: none")


@dataclass(frozen=True, slots=True)
class ModerationSettings:
    """The queue of flagged images that people decide on."""

    actions: tuple[str, ...] = setting(
        ("notify", "review", "block"), "flags of these actions wait for a moderator (comma list)"
    )
    lease_seconds: float = setting(
        60.0, "an image is kept for one moderator so long, unless renewed", least=5, most=3600
    )
    skip_hours: float = setting(24.0, "what a moderator skipped is not shown to him again so long", least=0, most=720)


@dataclass(frozen=True, slots=True)
class StackSettings:
    """The local stack of real servers."""

    var_dir: Path = setting(ROOT / "var", "folder for its data, logs and downloads")
    s3: str = setting("ministack", "the S3 server", choices=("ministack", "versitygw"))


@dataclass(frozen=True, slots=True)
class Settings:
    """The whole tree."""

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
    """One variable: its name, type, default, meaning, and what it may be."""

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
        """What it may be, in words: of a number from where to where, of a text its choices, else empty."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        if self.least is None:
            return ""
        return f"{self.least:.15g} or more" if self.most is None else f"{self.least:.15g} to {self.most:.15g}"

    @property
    def kind_name(self) -> str:
        """The type, in words."""
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

    Raises ConfigurationError, one sentence, for an unknown SIGHTLINE_* variable (with the nearest known name), for a
    value that is not of its field's type or out of its bounds, and for values that do not fit each other. Reads nothing
    but its argument.
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
    """Return the value of one variable; raises ConfigurationError with what it may be."""
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
    # Comparisons with nan are all false: what is no number of the line is refused first.
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
    return ConfigurationError(f"{row.variable}={text!r} must be {wanted} ({row.doc})")


def _check(settings: Settings) -> None:
    """Refuse combinations that cannot work; each sentence says which variables, their values and what is allowed."""
    kafka, lane, tables = settings.kafka, settings.lane, settings.tables
    if kafka.request_timeout_seconds <= kafka.rebalance_timeout_seconds:
        raise ConfigurationError(
            f"SIGHTLINE_KAFKA_REQUEST_TIMEOUT_SECONDS={kafka.request_timeout_seconds:g} must exceed "
            f"SIGHTLINE_KAFKA_REBALANCE_TIMEOUT_SECONDS={kafka.rebalance_timeout_seconds:g}: "
            "a slow join would otherwise be given up and begun again for ever"
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
    # Each retry may wait an hour, and its outcome must still find that the image was removed.
    if settings.redis.tombstone_hours <= lane.retries:
        raise ConfigurationError(
            f"SIGHTLINE_REDIS_TOMBSTONE_HOURS={settings.redis.tombstone_hours:g} must exceed "
            f"SIGHTLINE_LANE_RETRIES={lane.retries}, each of which may take an hour"
        )
    for name in ("warehouse", "archive"):
        address = getattr(settings.lake, name)
        # With a prefix always: objects below it are no uploads, and a whole bucket would hide every image in it.
        if not re.fullmatch(r"s3://[^/]+/[^/].*", address):
            raise ConfigurationError(f"SIGHTLINE_LAKE_{name.upper()}={address!r} must be s3://bucket/prefix")
    if tables.write_buffer_bytes > tables.block_cache_bytes:
        raise ConfigurationError(
            f"SIGHTLINE_TABLES_WRITE_BUFFER_BYTES={tables.write_buffer_bytes} must be at most "
            f"SIGHTLINE_TABLES_BLOCK_CACHE_BYTES={tables.block_cache_bytes}, of which it is a part"
        )
