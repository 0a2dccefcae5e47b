"""The lake's views as SQL text, from the tables' columns and the active models. Pure.

Three requirements shape the text. Filters must reach the files: DuckDB and Trino push a filter through a window only
for a column of its PARTITION BY, so the window that marks duplicates is also partitioned by event time, which an upload
id implies. Nested columns must not pass through a window, which would copy them: labels become plain columns below it.
The latest fact of an image is that of the index, app/domain/standing.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.domain.lake import COORDINATES
from app.inference.manifest import ModelManifest
from app.lake.sql.dialects import Dialect
from app.lake.sql.labels import ModelColumns, model_columns

_QUOTED: Final = frozenset({"values"})
# Columns that views add to those of models.
_OF_VIEWS: Final = frozenset({"day", "flagged", "action", "policy", "policy_version", "uploads", "contents", "copy"})
_ORDER: Final = "kafka_timestamp, kafka_topic, kafka_partition, kafka_offset"
_LATE: Final = "kafka_timestamp DESC, kafka_topic DESC, kafka_partition DESC, kafka_offset DESC"
# Identity of one event: a rescoring copies these columns from its upload.
_SAME_UPLOAD: Final = ("bucket", "key", "dialect", "order_key", "event_time")
_SCORE: Final = ("model", "version", "preprocessing", "cached", "skipped")


@dataclass(frozen=True, slots=True)
class View:
    """One view: its name and its query."""

    name: str
    query: str

    def statement(self) -> str:
        """Return the CREATE VIEW statement."""
        return f"CREATE OR REPLACE VIEW {self.name} AS\n{self.query};"


def lake_views(
    tables: Mapping[str, Sequence[str]], manifests: Iterable[ModelManifest], dialect: Dialect
) -> tuple[View, ...]:
    """Return all views in the order in which they can be created. `tables` has the columns of each table."""
    models = model_columns(manifests, taken_names(tables["predictions"]))
    makers: tuple[tuple[str, Callable[[], str]], ...] = (
        ("predictions_all", lambda: _predictions_all(tables["predictions"], models, dialect)),
        ("prediction_scores", lambda: _prediction_scores(dialect)),
        ("images_latest", _images_latest),
        ("predictions_latest", lambda: _predictions_latest(tables["predictions"], models, dialect)),
        ("uploads", lambda: _uploads(models)),
        ("per_upload", lambda: _per_upload(models)),
        ("per_content", lambda: _per_content(models)),
        ("flagged_latest", lambda: _flagged_latest(tables["flagged"])),
        ("decisions_latest", lambda: _decisions_latest(tables["decisions"])),
        ("embeddings_latest", lambda: _embeddings_latest(tables["embeddings"], dialect)),
        ("flag_rate_daily", _flag_rate_daily),
    )
    return tuple(View(name, make()) for name, make in makers)


def plain_name(column: str) -> str:
    """Return a column's name in the views: times lose their unit, which a timestamp does not need."""
    return column.removesuffix("_ms")


def taken_names(predictions: Iterable[str]) -> frozenset[str]:
    """Return the names that no column of a model may have; `predictions` are the columns of that table."""
    return frozenset(map(plain_name, predictions)) | _OF_VIEWS


def choices(models: Sequence[ModelColumns]) -> tuple[str, ...]:
    """Return the columns with the selected label of a model."""
    return tuple(model.choice for model in models if model.choice)


def _renamed(columns: Iterable[str]) -> list[str]:
    return [
        _name(column) if plain_name(column) == column else f"{column} AS {plain_name(column)}" for column in columns
    ]


def _name(column: str) -> str:
    return f'"{column}"' if column in _QUOTED else column


def _list(parts: Iterable[str], indent: str = "  ") -> str:
    return f",\n{indent}".join(parts)


def _predictions_all(columns: Sequence[str], models: Sequence[ModelColumns], dialect: Dialect) -> str:
    scores = [f"{dialect.first_with('scores', 'model', model.model)} AS {_row(model)}" for model in models]
    return _flattened([*_renamed(columns), *scores], columns, models, dialect)


def _predictions_latest(columns: Sequence[str], models: Sequence[ModelColumns], dialect: Dialect) -> str:
    """Return the query for the scores of active versions. A rescoring has those of other models in `previous`."""
    active = [(model.model, model.version) for model in models]
    chosen = [
        f"{dialect.in_force(active)} AS scores" if column == "scores" else f"predictions.{renamed}"
        for column, renamed in zip(columns, _renamed(columns), strict=True)
    ]
    chosen += [f"{dialect.last_said(model.model, model.version)} AS {_row(model)}" for model in models]
    # Joined above the labels, because a join copies its input, and scores are large.
    join = """
  JOIN images_latest ON images_latest.upload_id = flat.upload_id AND images_latest.event_time = flat.event_time
  WHERE NOT images_latest.removed"""
    return _flattened(chosen, columns, models, dialect, join)


def _flattened(
    chosen: Sequence[str], columns: Sequence[str], models: Sequence[ModelColumns], dialect: Dialect, join: str = ""
) -> str:
    """Return a query of predictions with the columns of models, one row per upload id: its first record."""
    names = [plain_name(column) for column in columns]
    labels: list[str] = []
    for model in models:
        row = _row(model)
        if model.choice:
            labels.append(f"{dialect.highest(f'{row}.labels')} AS {row}_highest")
        labels += [
            f"{dialect.first_with(f'{row}.labels', 'label', label.label)}.value AS {label.column}"
            for label in model.labels
        ]
        labels += [f"{row}.version AS {model.version_column}", f"{row}.skipped AS {model.skipped_column}"]
    of_models = [name for model in models for name in model.all()]
    picked = {name: f"{_row(model)}_highest.{part} AS {name}" for model in models for name, part in _highest(model)}
    return f"""SELECT
  {_list([*names, *of_models])}
FROM (
  SELECT flat.*, row_number() OVER (PARTITION BY flat.upload_id, flat.event_time ORDER BY {_ORDER}) AS copy
  FROM (
    SELECT
      {_list([*names, *(picked.get(name, name) for name in of_models)], "      ")}
    FROM (
      SELECT
        {_list([*names, *labels], "        ")}
      FROM (
        SELECT
          {_list(chosen, "          ")}
        FROM predictions
      ) AS found
    ) AS labelled
  ) AS flat{join}
) AS numbered
WHERE copy = 1"""


def _row(model: ModelColumns) -> str:
    return f"model_{model.model}"


def _highest(model: ModelColumns) -> tuple[tuple[str, str], ...]:
    return ((model.choice, "label"), (model.choice_score, "value")) if model.choice else ()


def _prediction_scores(dialect: Dialect) -> str:
    columns = (
        "upload_id",
        "bucket",
        "key",
        "sha256",
        "job_id",
        "event_time_ms AS event_time",
        "scored_at_ms AS scored_at",
        "kafka_timestamp",
    )
    # `cached` of the upload is dropped; here it belongs to the score.
    return dialect.scores_of(columns, _SCORE, ("label", "value"))


def _images_latest() -> str:
    facts = "bucket, key, event_key IS NOT NULL AS other_reading"
    order = "dialect, order_key, event_time_ms AS event_time"
    return f"""WITH erased AS (
  SELECT DISTINCT bucket AS of_bucket, key AS of_key, version_id AS of_version
  FROM removals
  WHERE version_id <> '' AND NOT delete_marker
),
facts AS (
  SELECT {facts}, false AS removed, {order}, scored_at_ms AS decided_at, upload_id AS fact
  FROM predictions
  LEFT JOIN erased ON erased.of_bucket = bucket AND erased.of_key = key AND erased.of_version = version_id
  WHERE erased.of_key IS NULL
  UNION ALL
  SELECT {facts}, true AS removed, {order}, event_time_ms AS decided_at, removal_id AS fact
  FROM removals
  WHERE version_id IS NULL OR version_id = '' OR delete_marker
),
of_dialect AS (
  SELECT * FROM (
    SELECT *, row_number() OVER (
      PARTITION BY bucket, key, other_reading, dialect, order_key = ''
      ORDER BY order_key DESC, CASE WHEN order_key = '' THEN event_time END DESC, removed DESC, decided_at DESC,
        fact DESC
    ) AS place
    FROM facts
  ) AS numbered
  WHERE place = 1
),
of_reading AS (
  SELECT * FROM (
    SELECT bucket, key, other_reading, removed, dialect, order_key, event_time, decided_at, fact, row_number() OVER (
      PARTITION BY bucket, key, other_reading ORDER BY event_time DESC, removed DESC, decided_at DESC, fact DESC
    ) AS place
    FROM of_dialect
  ) AS numbered
  WHERE place = 1
),
other AS (
  SELECT * FROM of_reading WHERE other_reading
),
compared AS (
  SELECT one.*,
    CASE
      WHEN other.bucket IS NULL THEN true
      WHEN other.removed THEN true
      WHEN one.removed AND one.dialect = other.dialect THEN false
      WHEN one.dialect = other.dialect AND one.order_key <> '' AND other.order_key <> ''
        AND one.order_key <> other.order_key THEN one.order_key > other.order_key
      WHEN (one.dialect <> other.dialect OR one.order_key = '' OR other.order_key = '')
        AND one.event_time <> other.event_time THEN one.event_time > other.event_time
      WHEN one.removed THEN true
      WHEN one.decided_at <> other.decided_at THEN one.decided_at > other.decided_at
      ELSE one.fact > other.fact
    END AS first_counts
  FROM of_reading AS one
  LEFT JOIN other ON other.bucket = one.bucket AND other.key = one.key
  WHERE NOT one.other_reading
),
shown AS (
  SELECT bucket, key, other_reading, removed, dialect, order_key, event_time, fact FROM compared WHERE first_counts
  UNION ALL
  SELECT bucket, key, other_reading, removed, dialect, order_key, event_time, fact
  FROM other
  WHERE NOT EXISTS (
    SELECT 1 FROM compared
    WHERE compared.bucket = other.bucket AND compared.key = other.key AND compared.first_counts
  )
)
SELECT bucket, key, removed, CASE WHEN NOT removed THEN fact END AS upload_id, dialect, order_key, event_time,
  other_reading
FROM shown"""


def _uploads(models: Sequence[ModelColumns]) -> str:
    columns = ["upload_id", "bucket", "key", "sha256", "event_time", "outcome", "reason", "format", *choices(models)]
    same = " AND ".join(f"flags.{name} = seen.{name}" for name in _SAME_UPLOAD)
    return f"""WITH flags AS (
  SELECT * FROM (
    SELECT bucket, key, dialect, order_key, event_time_ms AS event_time, state, action, policy, policy_version,
      row_number() OVER (
        PARTITION BY bucket, key, dialect, order_key, event_time_ms ORDER BY decided_at_ms DESC, flag_id DESC
      ) AS place
    FROM flagged
  ) AS numbered
  WHERE place = 1 AND state = 'flagged'
)
SELECT
  {_list(f"seen.{column}" for column in columns)},
  {_day("seen.event_time")} AS day,
  flags.state IS NOT NULL AS flagged,
  flags.action,
  flags.policy,
  flags.policy_version
FROM predictions_all AS seen
LEFT JOIN flags ON {same}
WHERE seen.job_id IS NULL"""


def _day(time: str) -> str:
    return f"CAST({time} AT TIME ZONE 'UTC' AS DATE)"


def _per_upload(models: Sequence[ModelColumns]) -> str:
    by = ", ".join(["day", "outcome", *choices(models), "flagged"])
    return f"SELECT {by}, count(*) AS uploads\nFROM uploads\nGROUP BY {by}"


def _per_content(models: Sequence[ModelColumns]) -> str:
    by = ", ".join(["day", "outcome", *choices(models), "flagged"])
    return f"""SELECT {by}, count(*) AS contents
FROM (
  SELECT {by}, row_number() OVER (PARTITION BY sha256 ORDER BY event_time, upload_id) AS place
  FROM uploads
  WHERE sha256 IS NOT NULL
) AS numbered
WHERE place = 1
GROUP BY {by}"""


def _flagged_latest(columns: Sequence[str]) -> str:
    names = [plain_name(column) for column in columns]
    same = " AND ".join(f"images_latest.{name} = flags.{name}" for name in _SAME_UPLOAD)
    return f"""SELECT
  {_list(names)}
FROM (
  SELECT
    {_list((f"flags.{name}" for name in names), "    ")},
    row_number() OVER (PARTITION BY flags.bucket, flags.key ORDER BY flags.decided_at DESC, flags.flag_id DESC) AS place
  FROM (
    SELECT
      {_list(_renamed(columns), "      ")}
    FROM flagged
  ) AS flags
  JOIN images_latest ON {same}
    AND images_latest.other_reading = (flags.event_key IS NOT NULL)
  WHERE NOT images_latest.removed
) AS numbered
WHERE place = 1"""


def _decisions_latest(columns: Sequence[str]) -> str:
    return f"""SELECT
  {_list(plain_name(column) for column in columns)}
FROM (
  SELECT
    {_list(_renamed(columns), "    ")},
    row_number() OVER (PARTITION BY bucket, key ORDER BY decided_at_ms DESC, decision_id DESC, {_LATE}) AS place
  FROM decisions
  WHERE NOT EXISTS (SELECT 1 FROM decisions AS later WHERE later.reverses = decisions.decision_id)
) AS numbered
WHERE place = 1"""


def _embeddings_latest(columns: Sequence[str], dialect: Dialect) -> str:
    shown = [_name(plain_name(column)) for column in columns]
    at = shown.index(COORDINATES[0])
    shown.insert(at, f"{dialect.signed_bytes(_name('values'))} AS vector")
    return f"""SELECT
  {_list(shown)}
FROM (
  SELECT
    {_list(_renamed(columns), "    ")},
    row_number() OVER (
      PARTITION BY sha256, model, version, preprocessing ORDER BY computed_at_ms DESC, {_LATE}
    ) AS place
  FROM embeddings
) AS numbered
WHERE place = 1"""


def _flag_rate_daily() -> str:
    return """WITH seen AS (
  SELECT day, policy, policy_version, flagged FROM uploads WHERE outcome IN ('scored', 'rejected')
),
days AS (
  SELECT day, count(*) AS uploads FROM seen GROUP BY day
),
flags AS (
  SELECT day, policy, policy_version, count(*) AS flagged FROM seen WHERE flagged GROUP BY day, policy, policy_version
)
SELECT days.day, flags.policy, flags.policy_version, days.uploads, coalesce(flags.flagged, 0) AS flagged,
  CAST(coalesce(flags.flagged, 0) AS DOUBLE) / days.uploads AS rate
FROM days
LEFT JOIN flags ON flags.day = days.day"""
