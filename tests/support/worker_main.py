"""The entry module of worker processes in tests: `python -m tests.support.worker_main AGENT [FAILPOINT]`.

The same worker as in production, with the echo processor and, where a test asks for it, a producer or a table store
that stops the process at an exact point.
"""

from __future__ import annotations

import asyncio
import os
import sys

from app import logs
from app.bootstrap import Parts, run_worker
from app.settings import load_settings
from tests.support.processors import echo


def main() -> None:
    """Run one worker until it is ended."""
    logs.set_up(load_settings(os.environ).worker)
    settings = load_settings(os.environ)
    asyncio.run(run_worker(settings, sys.argv[1], Parts(processor=echo)))


if __name__ == "__main__":
    main()
