"""`./sightline worker NAME`: one agent as one process, or kept alive by a supervisor, or once for each GPU."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from typing import Annotated

import typer

from agents import NAMES, SCORE, agent_named
from app import logs
from app.errors import ConfigurationError, StartupRefused
from app.exit_codes import ExitCode
from app.settings import load_settings
from app.verbs.supervise import Child, child_of_each_gpu, supervise

# Asked in a process of its own: the supervisor must not hold memory of a GPU.
_COUNT_GPUS = """
from app.inference.tensorflow import load_tensorflow
print(len(load_tensorflow().config.list_physical_devices("GPU")))
"""


def register(cli: typer.Typer) -> None:
    """Add the verb."""
    cli.command("worker")(_worker)


def _worker(
    name: Annotated[str, typer.Argument(help=f"One of {NAMES}.")],
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Start it again when it dies, after 1 s, doubled up to 30 s."),
    ] = False,
    per_gpu: Annotated[
        bool,
        typer.Option("--per-gpu", help="One score worker for each GPU that TensorFlow sees; implies --restart."),
    ] = False,
    ceiling_exit: Annotated[
        int,
        typer.Option(
            min=0,
            max=255,
            help="With --restart: the exit code after too many dead letters; 0 for a Docker that restarts on failure.",
        ),
    ] = ExitCode.CEILING.value,
) -> None:
    """Run one agent: a consumer group and process of its own, until SIGTERM.

    Checks broker, topics and schema ids first, and says in one sentence what is missing (exit 2). Serves /metrics and
    /healthz on a port that it logs and writes to http.json in its data folder. Exits 0 after SIGTERM, 70 when it must
    not go on (start it again: nothing is lost), 78 when too many dead letters stopped it (look first).
    """
    settings = load_settings(os.environ)
    if restart or per_gpu:
        agent_named(name)
        children: tuple[Child, ...] = (Child(("worker", name), name),)
        if per_gpu:
            if name != SCORE.name:
                raise ConfigurationError(
                    f"--per-gpu goes with {SCORE.name}, the agent that uses a GPU, not with {name}"
                )
            children = child_of_each_gpu(settings, name, _count_gpus())
        raise typer.Exit(supervise(children, ceiling_exit))
    # Imported here: a supervisor stays small.
    from app.compose.bootstrap import run_worker
    from app.compose.processors import production_parts

    logs.set_up(settings.worker)
    asyncio.run(run_worker(settings, name, production_parts(name)))


def _count_gpus() -> int:
    """Return how many GPUs TensorFlow sees, at least one. Takes seconds; raises StartupRefused where there is none."""
    asked = subprocess.run([sys.executable, "-c", _COUNT_GPUS], capture_output=True, text=True, check=False)
    words = asked.stdout.split()
    if asked.returncode != 0 or not words:
        raise StartupRefused(f"TensorFlow cannot tell its GPUs: {asked.stderr.strip()[-300:]}")
    if (found := int(words[-1])) == 0:
        raise StartupRefused("--per-gpu: TensorFlow sees no GPU on this machine; leave it out to score on the CPU")
    return found
