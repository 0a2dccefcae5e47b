"""Runs one target in a process of its own, so that a crash, a hang or too much memory is a finding, too."""

from __future__ import annotations

import json
import mmap
import resource
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from app.settings import ROOT
from tests.fuzz.engine import Fuzzer, samples, save
from tests.fuzz.targets import TARGETS

# An input that is checked for this long hangs. Wall clock, on a machine that may be busy; the targets bound CPU time.
HANG_SECONDS: Final = 60
_SHARED_BYTES: Final = 1024 * 1024
_STATE: Final = struct.Struct("<QQ")  # inputs so far, size of the one being checked; its bytes follow


def supervised(target: str, inputs: int, seconds: float, seed: int, folder: Path) -> dict[str, Any]:
    """Return the report of a run; a run that ended early has a finding that says how."""
    known = samples(target, folder)
    with tempfile.TemporaryDirectory() as temporary:
        shared, out = Path(temporary) / "current", Path(temporary) / "report.json"
        shared.write_bytes(bytes(_SHARED_BYTES))
        arguments = [target, str(inputs), str(seconds), str(seed), str(folder), str(shared), str(out)]
        process = subprocess.Popen([sys.executable, "-m", "tests.fuzz.supervise", *arguments], cwd=ROOT)
        problem, last = "", -1
        try:
            while not problem:
                try:
                    status = process.wait(timeout=HANG_SECONDS)
                    problem = f"the process ended with status {status}" if status else ""
                    break
                except subprocess.TimeoutExpired:
                    count, _ = _current(shared)
                    problem, last = (f"no answer within {HANG_SECONDS} s" if count == last else ""), count
        finally:
            process.kill()
            process.wait()
        if not problem:
            report: dict[str, Any] = json.loads(out.read_text())
            return report
        count, content = _current(shared)
        found = [{"problem": problem, "path": save(target, content, folder)}]
        # Saved before the end: run them alone to see what they break.
        found += [
            {"problem": "found earlier in this run", "path": str(path)}
            for path in samples(target, folder)
            if path not in known and path.name not in found[0]["path"]
        ]
        return {"target": target, "seed": seed, "inputs": count, "findings": found}


def _current(shared: Path) -> tuple[int, bytes]:
    held = shared.read_bytes()
    count, size = _STATE.unpack_from(held)
    return count, held[_STATE.size : _STATE.size + size]


def _main(target: str, inputs: int, seconds: float, seed: int, folder: Path, shared: Path, out: Path) -> None:
    with shared.open("r+b") as file, mmap.mmap(file.fileno(), _SHARED_BYTES) as memory:

        def note(content: bytes) -> None:
            count = fuzzer.report.inputs
            memory[: _STATE.size] = _STATE.pack(count, len(content))
            memory[_STATE.size : _STATE.size + len(content)] = content

        fuzzer = Fuzzer(TARGETS[target], seed, folder, before=note)
        if most := TARGETS[target].memory_bytes:
            held = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (held + most, held + most))
        report = fuzzer.run(inputs, seconds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    out.write_text(
        json.dumps(
            {
                "target": report.target,
                "seed": report.seed,
                "inputs": report.inputs,
                "seconds": report.seconds,
                "signatures": report.signatures,
                "figures": {**report.figures, "peak_bytes": peak},
                "findings": [{"problem": one.problem, "path": one.path} for one in report.findings],
            }
        )
    )


if __name__ == "__main__":
    _name, _inputs, _seconds, _seed, *_paths = sys.argv[1:]
    _main(_name, int(_inputs), float(_seconds), int(_seed), *(Path(path) for path in _paths))
