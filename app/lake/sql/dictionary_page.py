"""docs/lake-tables.md: the data dictionary as a page. Reads the schemas and the models that lie in models/."""

from __future__ import annotations

from typing import Final

from app.lake.sql.dictionary import Relation, dictionary
from app.settings import InferenceSettings

SOURCE: Final = "app/domain/lake_columns.py, schemas/ and models/"
_HEAD: Final = """# The lake's tables and views

Kafka Connect writes five topics into Iceberg tables on S3, one row for each record. `./sightline lake sql "SELECT …"`
reads them; [analytics.md](analytics.md) answers ten questions with it. `./sightline lake tables` lists what there is,
`./sightline lake views` prints the views for another engine (`--dialect trino` for Trino and Athena). Tests parse that
text as both engines do and run its array expressions on DuckDB; no test runs the whole text on Trino or Athena.

Types are DuckDB's. Times are in UTC. Every column may be null: those that a newer schema brought are, in older rows.
A table has its rows in a partition for each UTC day of `kafka_timestamp`. A filter on that column reads those days
alone; one on another time reads the files whose bounds it meets. Filter views by `event_time`.

Columns of models are those of the versions that are active in `models/`: one for each label, `<model>_version` and
`<model>_skipped`, and for a model that names one of several labels `<model>` and `<model>_score`.
"""


def lake_page() -> str:
    """Return the page without its first line, for the models that are active where no setting says else."""
    relations = dictionary(InferenceSettings())
    parts = [_HEAD, "\n## Tables\n", *(_section(one) for one in relations if not one.is_view)]
    parts += ["\n## Views\n", *(_section(one) for one in relations if one.is_view)]
    return "".join(parts)


def _section(relation: Relation) -> str:
    rows = [f"| `{column.name}` | {_kind(column.kind)} | {_cell(column.meaning)} |\n" for column in relation.columns]
    head = "| column | type | meaning |\n| --- | --- | --- |\n"
    return f"\n### {relation.name}\n\n{relation.meaning}\n\n{head}{''.join(rows)}"


def _kind(kind: str) -> str:
    return f"`{kind.replace('TIMESTAMP WITH TIME ZONE', 'TIMESTAMPTZ')}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
