"""A score worker whose only model ends the process on red pictures.

    python -m tests.support.streaming.killing_worker HARM

HARM is `abort`, `segfault`, `memory` or `none`. Everything else is the production worker: S3, tables, transactions.
`--restart HARM` runs it under the supervisor of `./sightline worker --restart`. A path in CGROUP_VARIABLE is the file
`cgroup.procs` of a group that the worker joins first.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np

from app import logs
from app.compose.bootstrap import Parts, run_worker
from app.compose.processors import check_surroundings, score_with
from app.inference.manifest import Kind
from app.inference.model_input import ModelInput
from app.inference.registry import Registry
from app.inference.runtime import ModelOutput
from app.settings import ROOT, load_settings
from app.verbs.supervise import Child, supervise
from tests.support.streaming.driver import WorkerProcess
from tests.support.toy_models import INPUT, ToyNetwork, manifest
from tests.support.verbs import clean_environment

ENTRY: Final = "tests.support.streaming.killing_worker"
CGROUP_VARIABLE: Final = "TEST_CGROUP_PROCS"
_BLOCK_BYTES: Final = 64 * 1024 * 1024


def _fill_memory() -> None:
    held = []
    while True:
        held.append(np.ones(_BLOCK_BYTES, dtype=np.uint8))


HARMS: Final[Mapping[str, Callable[[], object]]] = {
    "abort": os.abort,
    "segfault": lambda: ctypes.string_at(0),
    "memory": _fill_memory,
    "none": lambda: None,
}


class KillingNetwork(ToyNetwork):
    """A ToyNetwork that does its harm when a batch holds a picture that is all red."""

    def __init__(self, harm: str) -> None:
        super().__init__(manifest("colour", Kind.NETWORK, ("red",), spec=INPUT))
        self._harm = HARMS[harm]

    def infer(self, batch: Sequence[ModelInput]) -> ModelOutput:
        if any(one.pixels[..., 0].min() > 240 and one.pixels[..., 1:].max() < 15 for one in batch):
            self._harm()
        return super().infer(batch)


class KillingWorker(WorkerProcess):
    """This module as a process, under the supervisor."""

    def start(self) -> None:
        """Start it; its log goes on in the same file."""
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", ENTRY, "--restart", *self.arguments],
                cwd=ROOT,
                env=clean_environment(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )


def main() -> None:
    """Run one worker until it is ended."""
    *options, harm = sys.argv[1:]
    if options == ["--restart"]:
        sys.exit(supervise((Child((harm,), "score"),), command=lambda words: [sys.executable, "-m", ENTRY, *words]))
    if procs := os.environ.get(CGROUP_VARIABLE):
        Path(procs).write_text(f"{os.getpid()}\n")
    settings = load_settings(os.environ)
    logs.set_up(settings.worker)
    network = KillingNetwork(harm)
    registry = Registry(models={"colour": network}, manifests=(network.manifest,), device="CPU")
    parts = Parts(processor=lambda wiring: score_with(registry, wiring), check=check_surroundings)
    asyncio.run(run_worker(settings, "score", parts))


if __name__ == "__main__":
    main()
