"""`./sightline policy check|show`: moderation policies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from app.domain.policy import check_references, run_cases
from app.domain.policy.rules import ACTIONS, condition_in_words
from app.exit_codes import ExitCode
from app.pipeline.policies import known_labels, read_policy
from app.settings import load_settings
from app.verbs.output import JsonOption, show, table_text

_File = Annotated[Path | None, typer.Argument(help="A policy file; SIGHTLINE_POLICY_PATH when left out.")]


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    policy = typer.Typer(no_args_is_help=True, help="Moderation policies: check one, show one.")
    policy.command("check")(_check)
    policy.command("show")(_show)
    cli.add_typer(policy, name="policy")


def _check(
    file: _File = None,
    as_json: JsonOption = False,
) -> None:
    """Read the file, check its models and labels against models/, run the tests it carries.

    Exit code 0: all fine; 1: a test of the file failed; 2: the file is wrong (line and reason are printed).
    """
    settings = load_settings(os.environ)
    policy = read_policy(file or settings.policy.path)
    labels = known_labels(settings.inference.models_dir)
    if labels:
        check_references(policy, labels)
    failures = run_cases(policy)
    for failure in () if as_json else failures:
        typer.echo(f"{policy.source}, line {failure.line}: test {failure.case!r}: {failure.reason}", err=True)
    checked = "models and labels exist" if labels else "models not checked (no models folder)"
    passed = len(policy.cases) - len(failures)
    words = (
        f"{policy.name} {policy.full_version}: {len(policy.rules)} rules, {checked}, "
        f"{passed} of {len(policy.cases)} tests pass"
    )
    plain = {
        "policy": policy.name,
        "version": policy.version,
        "digest": policy.digest,
        "rules": len(policy.rules),
        "tests": len(policy.cases),
        "models_checked": bool(labels),
        "failures": [{"test": f.case, "line": f.line, "reason": f.reason} for f in failures],
    }
    show(as_json, plain, [words])
    raise typer.Exit(ExitCode.of_check(not failures))


def _show(
    file: _File = None,
    as_json: JsonOption = False,
) -> None:
    """Print the rules of a policy, strongest action first, in words."""
    policy = read_policy(file or load_settings(os.environ).policy.path)
    rules = sorted(policy.rules, key=lambda rule: -ACTIONS.index(rule.action))
    plain = [
        {"rule": rule.id, "action": rule.action, "severity": rule.severity, "when": condition_in_words(rule.when)}
        for rule in rules
    ]
    table = Table(title=f"{policy.name} {policy.full_version}", title_justify="left")
    for column in ("rule", "action", "severity", "when"):
        table.add_column(column)
    for rule in rules:
        table.add_row(rule.id, rule.action, str(rule.severity), condition_in_words(rule.when))
    shown = {"policy": policy.name, "version": policy.version, "digest": policy.digest, "rules": plain}
    show(as_json, shown, [table_text(table)])
