"""The only command line: `./sightline VERB …`, `python -m app VERB …` from the root."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Final

import typer

from app.errors import SightlineError
from app.exit_codes import ExitCode
from app.logs import quiet_clients
from app.settings import load_settings

# In the order of their names, as `--help` lists them.
_VERBS: Final = (
    "app.api.verb",
    "app.archive.verb",
    "app.ledger.audit_verb",
    "app.bench.verb",
    "app.bridge.verb",
    "app.dead_letters.verb",
    "app.demo.verb",
    "app.documentation.verb",
    "app.explain.verb",
    "app.index.verb",
    "app.lake.verbs",
    "app.training.models_verb",
    "app.moderation.policy_verb",
    "app.ledger.reconcile_verb",
    "app.parking.verb",
    "app.rescoring.verb",
    "app.stack.schemas_verb",
    "app.scoring.verb",
    "app.stack.verb",
    "app.training.verb",
    "app.compose.worker_verb",
)


def build() -> typer.Typer:
    """Return the command line with every verb."""
    cli = typer.Typer(
        name="sightline",
        help="Scores every image that is uploaded to an S3 bucket, exactly once each.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    for name in _VERBS:
        importlib.import_module(name).register(cli)
    return cli


def _stand_on_running_stack() -> None:
    """Make the addresses of a running local stack the defaults of every verb; what the caller set himself wins."""
    from app.stack.state import with_running_stack

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
