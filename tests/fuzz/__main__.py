"""Command line: `python -m tests.fuzz --inputs 100000 --seconds 600 --seed 1 --target events`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.fuzz.engine import SAMPLES
from tests.fuzz.supervise import supervised
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run the targets one after another, print a JSON line for each, and return 1 if anything broke."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description="Fuzz everything that reads foreign bytes."
    )
    parser.add_argument("--inputs", type=int, default=10_000, help="inputs for each target (default 10000)")
    parser.add_argument(
        "--seconds", type=float, default=60.0, help="stop a target after this many seconds (default 60)"
    )
    parser.add_argument("--seed", type=int, default=1, help="equal seeds make equal inputs (default 1)")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="this target alone; repeatable")
    parser.add_argument("--save", type=Path, default=SAMPLES, help="folder for inputs that break a promise")
    chosen = parser.parse_args()
    broken = False
    for target in chosen.target or TARGETS:
        report = supervised(target, chosen.inputs, chosen.seconds, chosen.seed, chosen.save)
        print(json.dumps(report), flush=True)
        broken = broken or bool(report["findings"])
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
