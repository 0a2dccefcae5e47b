"""docs/lake-tables.md: the data dictionary as a page. Reads the schemas and the models in models/."""

from __future__ import annotations

import textwrap
from typing import Final

from app.lake.sql.dictionary import Relation, dictionary
from app.settings import InferenceSettings

SOURCE: Final = "app/domain/lake_columns.py, schemas/ and models/"
_COLUMNS: Final = 120
_HEAD: Final = """# The lake's tables and views

Kafka Connect writes the records of five topics into Iceberg tables on S3, one row per record.
`./sightline lake sql "SELECT …"` queries them; [analytics.md](analytics.md) contains ten questions with their queries.
`./sightline lake tables` lists tables and views. `./sightline lake views` prints the views for another engine
(`--dialect trino` for Trino and Athena). Tests parse that text as both engines do and run its array expressions on
DuckDB; no test runs the whole text on Trino or Athena.

Types are those of DuckDB. Times are in UTC. Every column may be null, for example in rows older than the column. A
table has one partition per UTC day of `kafka_timestamp`. A filter on that column reads only those days; a filter on
another time reads only the files whose bounds match. Filter views by `event_time`.

The columns of models belong to the versions that are active in `models/`: one column per label, `<model>_version` and
`<model>_skipped`, and for a model that selects one of several labels `<model>` and `<model>_score`.
"""


def lake_page() -> str:
    """Return the page without its first line, for the models that are active with default settings."""
    relations = dictionary(InferenceSettings())
    parts = [_HEAD, "\n## Tables\n", *(_section(table) for table in relations if not table.is_view)]
    parts += ["\n## Views\n", *(_section(view) for view in relations if view.is_view)]
    return "".join(parts)


def _section(relation: Relation) -> str:
    rows = [f"| `{column.name}` | {_kind(column.kind)} | {_cell(column.meaning)} |\n" for column in relation.columns]
    head = "| column | type | meaning |\n| --- | --- | --- |\n"
    meaning = textwrap.fill(relation.meaning, _COLUMNS, break_on_hyphens=False)
    return f"\n### {relation.name}\n\n{meaning}\n\n{head}{''.join(rows)}"


def _kind(kind: str) -> str:
    return f"`{kind.replace('TIMESTAMP WITH TIME ZONE', 'TIMESTAMPTZ')}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
