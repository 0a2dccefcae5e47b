"""The only command line: `./sightline VERB …`, `python -m app VERB …` from the root."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import typer
from typer.core import TyperGroup
from typer.main import get_group

from app.errors import SightlineError
from app.exit_codes import ExitCode
from app.logs import quiet_clients
from app.settings import load_settings
from app.stack.state import with_running_stack
from app.verbs.lazy_group import Verb, lazy_group

# In the order of their names, as `--help` lists them.
_VERBS: Final = (
    Verb("api", "app.api.verb", "The query service and the console for moderators."),
    Verb(
        "archive",
        "app.archive.verb",
        "The archive of raw records that the agent `archive` writes: Parquet files on S3, one for each range.",
    ),
    Verb(
        "audit",
        "app.ledger.audit_verb",
        "Count the ledger: uploads = outcomes + open dead letters, none missing and none twice.",
    ),
    Verb("bench", "app.bench.verb", "Measure speed and memory on this machine (bench/README.md: how to read it)."),
    Verb("bridge", "app.bridge.verb", "Bring bucket notifications from elsewhere to s3.uploads."),
    Verb("dead-letters", "app.dead_letters.verb", "Records that could not be handled: list, show, send round again."),
    Verb(
        "demo",
        "app.demo.verb",
        "Upload pictures to a local S3, score all of them, and count: every upload one outcome, none lost, none twice.",
    ),
    Verb(
        "docs",
        "app.documentation.verb",
        "Write configuration.md, topics.md, metrics.md, lake-tables.md and openapi.json from what declares them.",
    ),
    Verb(
        "explain",
        "app.explain.verb",
        "Tell the story of one image: event, fetch, digest, scores, rules as they were then, timings, history.",
    ),
    Verb("index", "app.index.verb", "The index of latest outcomes (Redis): look one up, rebuild it."),
    Verb("lake", "app.lake.verbs", "The lake: Iceberg tables on S3 that Kafka Connect fills."),
    Verb(
        "models", "app.training.models_verb", "Models: list, verify against their golden sets, evaluate on photographs."
    ),
    Verb("policy", "app.moderation.policy_verb", "Moderation policies: check one, show one."),
    Verb(
        "reconcile",
        "app.ledger.reconcile_verb",
        "List a bucket and find objects without an outcome, a dead letter or a task in flight; "
        "with --yes enqueue them.",
    ),
    Verb("records", "app.parking.verb", "Park single records by hand, so that their agent passes them by."),
    Verb("rescore", "app.rescoring.verb", "Score past uploads again, behind the live ones."),
    Verb("schemas", "app.stack.schemas_verb", "The Avro schemas of schemas/."),
    Verb(
        "score",
        "app.scoring.verb",
        "Score files with all models, no broker needed; thumbnails and flags with --report.",
    ),
    Verb("stack", "app.stack.verb", "The local stack of real servers (Kafka, registry, Redis, S3)."),
    Verb(
        "train",
        "app.training.verb",
        "Train a head on photographs and write a complete model folder: artefact, manifest, golden set, card, report.",
    ),
    Verb("worker", "app.compose.worker_verb", "Run one agent: a consumer group and process of its own, until SIGTERM."),
)


def build() -> TyperGroup:
    """Return the command line. It imports the module of a verb only to run it."""
    cli = typer.Typer(
        name="sightline",
        cls=lazy_group(*_VERBS),
        help="Scores every image that is uploaded to an S3 bucket, exactly once each.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    return get_group(cli)


def _stand_on_running_stack() -> None:
    """Make the addresses of a running local stack the defaults of every verb; what the caller set himself wins."""
    os.environ.update(with_running_stack(os.environ))


def _refuse_wrong_settings(arguments: Sequence[str], environment: Mapping[str, str]) -> None:
    """Refuse a wrong SIGHTLINE_* variable also for verbs that read no settings; help is given in any case."""
    if arguments and "--help" not in arguments:
        load_settings(environment)


def main() -> None:
    """Run the command line; an error of ours is one sentence and exit code 2."""
    try:
        quiet_clients()
        _stand_on_running_stack()
        _refuse_wrong_settings(sys.argv[1:], os.environ)
        build()(prog_name="sightline")
    except SightlineError as error:
        print(f"sightline: {error}", file=sys.stderr)
        sys.exit(ExitCode.REFUSED)


if __name__ == "__main__":
    main()
