"""The data dictionary: every table and view of the lake with its columns, their types and meanings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from app.domain.lake import TABLES, LakeTable, table_named
from app.domain.lake_columns import VIEW_COLUMNS, VIEWS, table_meaning
from app.inference.active import active_manifests
from app.lake.sql.labels import ModelColumns, model_columns
from app.lake.sql.schema import Column, table_columns
from app.lake.sql.views import choices, plain_name, taken_names
from app.settings import InferenceSettings

_TEXT, _FLAG, _COUNT, _TIME = "VARCHAR", "BOOLEAN", "BIGINT", "TIMESTAMP WITH TIME ZONE"
# Views with the rows and columns of a table.
_OF_TABLE: Final = {
    "predictions_all": "predictions",
    "predictions_latest": "predictions",
    "flagged_latest": "flagged",
    "decisions_latest": "decisions",
    "embeddings_latest": "embeddings",
}
# Columns of other views; a column without its own meaning has that of the table `predictions`.
_SCORES: Final = (
    *((name, _TEXT) for name in ("upload_id", "bucket", "key", "sha256", "job_id")),
    *((name, _TIME) for name in ("event_time", "scored_at", "kafka_timestamp")),
    *((name, _TEXT) for name in ("model", "version", "preprocessing")),
    ("cached", _FLAG),
    ("skipped", _TEXT),
    ("label", _TEXT),
    ("value", "DOUBLE"),
)
_IMAGES: Final = (
    ("bucket", _TEXT),
    ("key", _TEXT),
    ("removed", _FLAG),
    ("upload_id", _TEXT),
    ("dialect", _TEXT),
    ("order_key", _TEXT),
    ("event_time", _TIME),
    ("other_reading", _FLAG),
)
_RATE: Final = (
    ("day", "DATE"),
    ("policy", _TEXT),
    ("policy_version", _TEXT),
    ("uploads", _COUNT),
    ("flagged", _COUNT),
    ("rate", "DOUBLE"),
)


@dataclass(frozen=True, slots=True)
class DescribedColumn:
    """One column: name, type in DuckDB's notation, meaning."""

    name: str
    kind: str
    meaning: str


@dataclass(frozen=True, slots=True)
class Relation:
    """One table or view with its columns."""

    name: str
    meaning: str
    columns: tuple[DescribedColumn, ...]
    is_view: bool


def dictionary(inference: InferenceSettings) -> tuple[Relation, ...]:
    """Return tables, then views, for the active models of the settings.

    Raises KeyError for a column without a meaning, ManifestError, ConfigurationError.
    """
    tables = tuple(
        Relation(
            table.name,
            f"One row for each record of `{table.topic}`, as Kafka Connect wrote it.",
            tuple(
                DescribedColumn(column.name, column.kind, table_meaning(table.name, column.name))
                for column in table_columns(table)
            ),
            False,
        )
        for table in TABLES
    )
    names = [column.name for column in table_columns(table_named("predictions"))]
    models = model_columns(active_manifests(inference), taken_names(names))
    views = tuple(
        Relation(name, meaning, tuple(_described(name, _columns(name, models), models)), True)
        for name, meaning in VIEWS.items()
    )
    return (*tables, *views)


def _columns(view: str, models: Sequence[ModelColumns]) -> list[Column]:
    if view in _OF_TABLE:
        columns = [Column(plain_name(column.name), column.kind) for column in table_columns(_table(view))]
        if view.startswith("predictions_"):
            columns += [Column(name, kind) for model in models for name, kind in _model_kinds(model)]
        if view == "embeddings_latest":
            at = next(at for at, column in enumerate(columns) if column.name == "kafka_topic")
            columns.insert(at, Column("vector", "TINYINT[]"))
        return columns
    chosen = [(name, _TEXT) for name in choices(models)]
    match view:
        case "prediction_scores":
            rows: Sequence[tuple[str, str]] = _SCORES
        case "images_latest":
            rows = _IMAGES
        case "flag_rate_daily":
            rows = _RATE
        case "uploads":
            rows = [
                *((name, _TEXT) for name in ("upload_id", "bucket", "key", "sha256")),
                ("event_time", _TIME),
                *((name, _TEXT) for name in ("outcome", "reason", "format")),
                *chosen,
                ("day", "DATE"),
                ("flagged", _FLAG),
                *((name, _TEXT) for name in ("action", "policy", "policy_version")),
            ]
        case _:
            counted = "uploads" if view == "per_upload" else "contents"
            rows = [("day", "DATE"), ("outcome", _TEXT), *chosen, ("flagged", _FLAG), (counted, _COUNT)]
    return [Column(name, kind) for name, kind in rows]


def _model_kinds(model: ModelColumns) -> list[tuple[str, str]]:
    texts = {model.choice, model.version_column, model.skipped_column}
    return [(name, _TEXT if name in texts else "DOUBLE") for name in model.all()]


def _table(view: str) -> LakeTable:
    return table_named(_OF_TABLE[view])


def _described(view: str, columns: Sequence[Column], models: Sequence[ModelColumns]) -> Iterator[DescribedColumn]:
    of_models = {name: words for model in models for name, words in _model_meanings(model)}
    own = VIEW_COLUMNS[view]
    # Views over flags have their own texts for the policy; all other columns come from predictions.
    fallback = _OF_TABLE.get(view, "predictions")
    for column in columns:
        meaning = own.get(column.name) or of_models.get(column.name) or _of_table(fallback, column.name)
        yield DescribedColumn(column.name, column.kind, meaning)


def _of_table(table: str, column: str) -> str:
    for name in (column, f"{column}_ms"):
        try:
            return table_meaning(table, name)
        except KeyError:
            continue
    raise KeyError(f"{column}: no meaning, in views of {table}")


def _model_meanings(model: ModelColumns) -> Iterator[tuple[str, str]]:
    if model.choice:
        labels = ", ".join(f"`{label.label}`" for label in model.labels)
        yield model.choice, f"The label of `{model.model}` with the highest score: {labels}."
        yield model.choice_score, "The score of that label, 0 to 1."
    for label in model.labels:
        yield label.column, label.meaning
    yield model.version_column, f"Version of `{model.model}` that answered; null where it did not."
    yield model.skipped_column, f"Empty, or why `{model.model}` did not need to run; its score is then its gate's."
