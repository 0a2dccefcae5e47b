"""`./sightline lake …`: the Iceberg tables that Kafka Connect fills; each verb has its own file here."""

from __future__ import annotations

from typing import Final

import typer

from app.verbs.lazy_group import Verb, lazy_group

_VERBS: Final = (
    Verb(
        "up",
        "app.lake.verbs.connect",
        "Create the lake's topics and tables, and give Kafka Connect (SIGHTLINE_LAKE_CONNECT_URL) its connectors.",
    ),
    Verb(
        "status",
        "app.lake.verbs.connect",
        "Print each table with its connector: whether it runs, rows, age of the snapshot, how far it is behind.",
    ),
    Verb(
        "watch",
        "app.lake.verbs.connect",
        "Look at connectors and tables until SIGTERM or Ctrl-C: start failed tasks again, and serve /metrics.",
    ),
    Verb(
        "connectors",
        "app.lake.verbs.connect",
        "Print each connector's configuration as `lake up` applies it: common, its own, the overlays and the settings.",
    ),
    Verb(
        "sql",
        "app.lake.verbs.sql",
        "Run one query by DuckDB, in this process, over the Iceberg tables and views (`lake tables` lists them).",
    ),
    Verb("answers", "app.lake.verbs.answers", "Run every query of the page over the lake and print the answers."),
    Verb(
        "views",
        "app.lake.verbs.views",
        "Print the CREATE VIEW statements, for the models that are active, in the order in which they can be run.",
    ),
    Verb(
        "tables",
        "app.lake.verbs.views",
        "List the tables with rows, files and newest snapshot, and the views; or the columns of one.",
    ),
    Verb(
        "verify",
        "app.lake.verbs.verify",
        "Count records against rows, by partition and offset; exit code 1 when they do not agree.",
    ),
    Verb(
        "compact",
        "app.lake.verbs.compact",
        "Join the small files of each day into files of SIGHTLINE_LAKE_TARGET_FILE_BYTES, sorted by event time.",
    ),
    Verb(
        "expire",
        "app.lake.verbs.expire",
        "Remove snapshots older than some days; the files that only they needed go with the next `lake gc`.",
    ),
    Verb(
        "gc",
        "app.lake.verbs.gc",
        "Delete what lies in a table's folder and belongs to no snapshot of it, and end forgotten multipart uploads.",
    ),
    Verb(
        "repair",
        "app.lake.verbs.repair",
        "Bring the rows that `lake verify` calls missing from the topics, and leave one of each that is there twice.",
    ),
    Verb(
        "register",
        "app.lake.verbs.repair",
        "Attach the tables that lie in the warehouse to a catalog that lost them, by their newest metadata files.",
    ),
    Verb(
        "erase",
        "app.lake.verbs.erase",
        "Take an image's or a content's rows out of all tables, with the snapshots and files that hold them.",
    ),
)


def register(cli: typer.Typer) -> None:
    """Add the group."""
    text = "The lake: Iceberg tables on S3 that Kafka Connect fills."
    cli.add_typer(typer.Typer(cls=lazy_group(*_VERBS), no_args_is_help=True, help=text), name="lake")
