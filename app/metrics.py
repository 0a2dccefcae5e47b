"""Every metric, declared once: name, type, unit, labels and meaning. docs/metrics.md is generated from the rows.

A worker counts through `Meters`; a name or a label that is not declared here is an error at the first use.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, Protocol

Kind = Literal["counter", "gauge", "histogram"]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row. Histograms need `buckets`, in `unit`."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    meaning: str
    buckets: tuple[float, ...] = ()


class Meters(Protocol):
    """Receiver of metrics. Never blocks. Raises KeyError for a name that is not declared."""

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        ...

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        ...

    def observe(self, name: str, value: float, **labels: str) -> None:
        """Add a value to a histogram."""
        ...

    def read(self, name: str, source: Callable[[], Mapping[tuple[str, ...], float]]) -> None:
        """Let a counter or gauge be read from `source` at each scrape: its values, by those of its labels in order.

        For values that some other part keeps; `source` must be quick, and is called in the thread of the scrape.
        """
        ...

    def forget(self, name: str) -> None:
        """Drop all label values of a gauge, such as the lanes of a generation that has ended."""
        ...


_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

METRICS: Final[tuple[Metric, ...]] = (
    # the lanes (app/streaming)
    Metric("sightline_lane_lag_records", "gauge", "records", ("topic", "partition"), "records not yet released"),
    Metric(
        "sightline_lane_lag_seconds", "gauge", "seconds", ("topic", "partition"), "age of the oldest record in progress"
    ),
    Metric("sightline_lane_in_flight", "gauge", "records", ("topic", "partition"), "records in progress"),
    Metric("sightline_lane_state", "gauge", "1", ("topic", "partition", "state"), "1 for the present state of a lane"),
    Metric("sightline_released_total", "counter", "records", ("topic",), "source records released"),
    Metric("sightline_outputs_total", "counter", "records", ("topic",), "records published in transactions"),
    Metric(
        "sightline_outcomes_total", "counter", "uploads", ("outcome",), "outcomes published: scored, rejected, gone"
    ),
    Metric("sightline_repeats_total", "counter", "records", ("topic",), "repeated uploads that published nothing"),
    Metric("sightline_dead_letters_total", "counter", "records", ("topic",), "dead letters published, by source topic"),
    Metric(
        "sightline_suspects",
        "gauge",
        "records",
        (),
        "records that were in progress when this worker died and are not released yet; each is processed alone",
    ),
    Metric(
        "sightline_crashed_records_total",
        "counter",
        "records",
        ("topic",),
        "records that became dead letters of the kind crashed_worker, after three crashes",
    ),
    Metric("sightline_transactions_total", "counter", "transactions", ("topic",), "transactions committed"),
    Metric(
        "sightline_transaction_records",
        "histogram",
        "records",
        (),
        "source records in one transaction",
        (1, 2, 5, 10, 20, 50, 100, 200),
    ),
    Metric(
        "sightline_release_seconds",
        "histogram",
        "seconds",
        (),
        "duration of the claims and the transaction of one release",
        _SECONDS,
    ),
    Metric("sightline_credits_taken", "gauge", "records", ("topic",), "credits of the pump in use"),
    Metric(
        "sightline_generations_total",
        "counter",
        "generations",
        (),
        "number of rebalances after which lanes were opened",
    ),
    Metric("sightline_loop_lag_seconds", "gauge", "seconds", (), "delay of the last tick of the event loop"),
    Metric(
        "sightline_table_loaded_records", "gauge", "records", (), "changelog records loaded in bulk since the start"
    ),
    # score: outcomes without inference, and the engine
    Metric(
        "sightline_cached_outcomes_total",
        "counter",
        "uploads",
        (),
        "outcomes from stored scores alone, without inference",
    ),
    Metric(
        "sightline_contents_total",
        "counter",
        "contents",
        ("answer",),
        "contents by answer: computed, joined to equal bytes in progress, or promoted out of a backfill batch",
    ),
    Metric("sightline_batches_total", "counter", "batches", ("queue",), "batches that the device has run"),
    Metric("sightline_batch_members_total", "counter", "images", ("queue",), "images in those batches"),
    Metric("sightline_device_busy_seconds_total", "counter", "seconds", (), "time for which the device ran batches"),
    Metric("sightline_engine_waiting", "gauge", "images", ("queue",), "images that wait for decoding or for a batch"),
    Metric(
        "sightline_decoder_processes_total",
        "counter",
        "processes",
        ("what",),
        "decoder processes that were started, crashed, or were killed at the deadline (timed_out)",
    ),
    # the query service: POST /v1/score and previews
    Metric(
        "sightline_api_scores_total",
        "counter",
        "pictures",
        ("answer",),
        "POST /v1/score by answer: computed, joined to equal bytes in progress, cached, rejected (not a readable "
        "picture), refused (too much work in progress), deadline (it passed), failed (the service stopped or failed)",
    ),
    Metric(
        "sightline_api_score_seconds",
        "histogram",
        "seconds",
        (),
        "time from body to answer of POST /v1/score",
        _SECONDS,
    ),
    Metric("sightline_api_score_in_flight", "gauge", "pictures", (), "pictures being computed for POST /v1/score"),
    Metric(
        "sightline_api_cache_failures_total",
        "counter",
        "calls",
        ("what",),
        "calls (get or put) that the shared cache of contents did not answer in time; the picture is still scored",
    ),
    Metric(
        "sightline_api_previews_total",
        "counter",
        "previews",
        ("answer",),
        "previews by answer: made, joined to an equal one in progress, kept, rejected, gone, refused, failed",
    ),
    # identify
    Metric(
        "sightline_events_total",
        "counter",
        "events",
        ("kind",),
        "upload events by kind: created, removed, filtered, ignored, test, tombstone, malformed",
    ),
    Metric(
        "sightline_events_other_dialect_total",
        "counter",
        "events",
        ("dialect",),
        "events from a source without a row in the table of dialects, read by their structure; after 20 labels the "
        "label is `more`",
    ),
    Metric(
        "sightline_events_new_version_total",
        "counter",
        "events",
        ("version",),
        "events of a major version that their dialect does not know, read like earlier versions: dialect and version; "
        "after 20 labels the label is `more`",
    ),
    # the bridge (app/bridge/bridge.py)
    Metric("sightline_bridge_messages_total", "counter", "messages", (), "messages that Kafka has acknowledged"),
    Metric("sightline_bridge_deleted_total", "counter", "messages", (), "messages deleted from the queue after that"),
    Metric("sightline_bridge_oversized_total", "counter", "messages", (), "messages too large for Kafka: dead letters"),
    Metric(
        "sightline_bridge_waits_total",
        "counter",
        "waits",
        ("side",),
        "pauses because the queue or the broker did not answer",
    ),
    # the lake (app/lake/connect/health.py)
    Metric("sightline_lake_connector_running", "gauge", "1", ("table",), "1 while a table's connector and tasks run"),
    Metric(
        "sightline_lake_behind_seconds",
        "gauge",
        "seconds",
        ("table",),
        "age of the oldest record that was published after the newest snapshot; 0 without one",
    ),
    Metric("sightline_lake_snapshot_age_seconds", "gauge", "seconds", ("table",), "age of the newest snapshot"),
    Metric("sightline_lake_rows", "gauge", "rows", ("table",), "rows of the newest snapshot"),
    Metric("sightline_lake_restarts_total", "counter", "restarts", ("table",), "restarts of failed tasks"),
    # archive
    Metric(
        "sightline_archive_files_total",
        "counter",
        "files",
        ("topic", "closed_by"),
        "files stored, by the limit that closed them: count, bytes, age, room",
    ),
    Metric("sightline_archive_bytes_total", "counter", "bytes", ("topic",), "size of those files"),
    Metric(
        "sightline_archive_records_total",
        "counter",
        "records",
        ("topic", "answer"),
        "archived records: written by this worker (written), or stored before (there)",
    ),
    Metric("sightline_archive_rivals_total", "counter", "files", ("topic",), "files that another writer stored first"),
    # the query service (app/api)
    Metric(
        "sightline_api_requests_total",
        "counter",
        "requests",
        ("route", "method", "status"),
        "requests answered; route is the template, `unmatched` without a matching route",
    ),
    Metric(
        "sightline_api_request_seconds",
        "histogram",
        "seconds",
        ("route",),
        "time from a request's head to the last byte of its answer, long polls and streams included",
        (0.0005, 0.001, 0.002, *_SECONDS),
    ),
    # the query service: the stream of flagged images (app/serving/flag_stream.py)
    Metric("sightline_stream_subscribers", "gauge", "streams", (), "open streams of flagged images"),
    Metric("sightline_stream_flags_total", "counter", "flags", (), "flags sent, to all subscribers together"),
    Metric(
        "sightline_stream_ended_total",
        "counter",
        "streams",
        ("why",),
        "streams that ended, by cause: gone (the client left), slow, broker (an outage while catching up), "
        "closing (the service stops)",
    ),
    Metric("sightline_resident_bytes", "gauge", "bytes", (), "resident memory of the process"),
)


def metric_of(name: str) -> Metric:
    """Return the row of `name`; raises KeyError for one that is not declared."""
    for metric in METRICS:
        if metric.name == name:
            return metric
    raise KeyError(name)
