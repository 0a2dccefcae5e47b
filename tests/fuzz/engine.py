"""The loop: takes an input, changes it, checks it, keeps it if the answer is of a new kind, and saves it if it breaks.

An input is `interesting` if its answer has a signature that no input before it had: outcome, reason and wording without
figures. Interesting inputs are changed further. That leads deep into formats without a measurement of coverage, which
the decoders could not give anyway: they are foreign code in another process.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from app.settings import ROOT
from tests.fuzz.mutations import Mutation

SAMPLES: Final = ROOT / "tests" / "samples" / "fuzz"
_MOST_KEPT: Final = 4000
_SHRINKS: Final = 300


class Broken(Exception):
    """An input for which a promise does not hold."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Observation of one check: the kind of the answer, and figures of which the largest is reported."""

    signature: str
    figures: Mapping[str, float] = field(default_factory=dict)


Check = Callable[[bytes], Answer]
"""Checks the promises on one input. Whatever it raises is a finding."""


@dataclass(frozen=True, slots=True)
class Target:
    """One reader of foreign bytes.

    `seeds` returns every n-th of the inputs to begin with; `open` gives the check, with what it needs. `cpu_seconds` is
    the most CPU time of this process that one check may take. `memory_bytes` is what the process may allocate after its
    imports, for all checks together; 0 sets no limit.
    """

    name: str
    seeds: Callable[[int], list[bytes]]
    open: Callable[[], AbstractContextManager[Check]]
    mutations: tuple[Mutation, ...]
    cpu_seconds: float
    max_bytes: int = 64 * 1024
    memory_bytes: int = 512 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Finding:
    """One input that broke a promise, and where it was saved."""

    problem: str
    path: str


@dataclass(slots=True)
class Report:
    """Summary of a run. `figures` holds the largest of each figure."""

    target: str
    seed: int
    inputs: int = 0
    seconds: float = 0.0
    signatures: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def samples(target: str, folder: Path = SAMPLES) -> list[Path]:
    """Return the saved inputs of a target: each broke a promise once."""
    return sorted(path for path in (folder / target).glob("*") if path.is_file())


def checked(check: Check, target: Target, content: bytes, worst: float = 0.0) -> tuple[Answer, str]:
    """Return the answer and the broken promise, which is empty where all hold.

    The CPU time is measured by a second check, and only where the first one took more than `worst` seconds of wall
    clock: on some machines reading the clock of CPU time takes longer than a check.
    """
    began = time.perf_counter()
    try:
        answer, problem = check(content), ""
        took = time.perf_counter() - began
        if took > worst:
            before = time.process_time()
            check(content)
            took = time.process_time() - before
            answer = Answer(answer.signature, {"cpu_seconds": took, **answer.figures})
            problem = "slow: more CPU time than allowed" if took > target.cpu_seconds else ""
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # noqa: BLE001 - whatever is raised is the finding
        answer, problem = Answer("broken"), f"{type(error).__name__}: {error}"[:300]
    return answer, problem


class Fuzzer:
    """One run over one target. `before` is called with each input before it is checked."""

    def __init__(
        self, target: Target, seed: int, folder: Path = SAMPLES, *, before: Callable[[bytes], None] = lambda _: None
    ) -> None:
        self._target = target
        self._rng = random.Random(f"{target.name} {seed}")
        self._folder = folder
        self._before = before
        self._kept: list[bytes] = []
        self._seen: set[str] = set()
        self._problems: set[str] = set()
        self.report = Report(target.name, seed)

    def run(self, inputs: int, seconds: float, every: int = 1) -> Report:
        """Check up to `inputs` inputs for up to `seconds`; begin with every n-th seed and all saved samples."""
        began = time.monotonic()
        with self._target.open() as check:
            self._kept = [seed for seed in self._target.seeds(every) if seed]
            saved = [path.read_bytes() for path in samples(self._target.name)]
            for content in [*self._kept, *saved]:
                self._try(check, content)
            while self.report.inputs < inputs and time.monotonic() - began < seconds:
                self._try(check, self._next())
        self.report.seconds = round(time.monotonic() - began, 1)
        self.report.signatures = len(self._seen)
        return self.report

    def _next(self) -> bytes:
        # Half of the time from what was kept last: it led to something new.
        recent = self._rng.random() < 0.5 and len(self._kept) > 64
        content = self._rng.choice(self._kept[-64:] if recent else self._kept)
        for _ in range(self._rng.choice((1, 1, 1, 2, 3, 5))):
            other = self._rng.choice(self._kept)
            content = self._rng.choice(self._target.mutations)(self._rng, content, other)[: self._target.max_bytes]
            if not content:
                return content
        return content

    def _try(self, check: Check, content: bytes) -> None:
        self._before(content)
        answer, problem = checked(check, self._target, content, self.report.figures.get("cpu_seconds", 0.0))
        self.report.inputs += 1
        for name, value in answer.figures.items():
            self.report.figures[name] = max(value, self.report.figures.get(name, 0.0))
        if problem:
            self._found(check, content, problem)
            return
        signature = _without_figures(answer.signature)
        if signature not in self._seen and len(self._kept) < _MOST_KEPT:
            self._seen.add(signature)
            if content:
                self._kept.append(content)

    def _found(self, check: Check, content: bytes, problem: str) -> None:
        kind = _without_figures(problem)
        if kind in self._problems:
            return
        self._problems.add(kind)
        small = self._shrunk(check, content, kind)
        self.report.findings.append(Finding(problem, save(self._target.name, small, self._folder)))

    def _shrunk(self, check: Check, content: bytes, kind: str) -> bytes:
        """Return a shorter input with the same problem; tries are bounded."""
        tries, size = 0, len(content) // 2
        while size and tries < _SHRINKS:
            at = 0
            while at < len(content) and tries < _SHRINKS:
                shorter = content[:at] + content[at + size :]
                tries += 1
                if _without_figures(checked(check, self._target, shorter)[1]) == kind:
                    content = shorter
                else:
                    at += size
            size //= 2
        return content


def save(target: str, content: bytes, folder: Path) -> str:
    """Save an input that breaks a promise, named by its content; return the path."""
    path = folder / target / hashlib.sha256(content).hexdigest()[:16]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


def _without_figures(text: str) -> str:
    return re.sub(r"0x[0-9a-f]+|\b[0-9a-f]{8,}\b|[0-9]+|'[^']*'", "#", text)[:120]
