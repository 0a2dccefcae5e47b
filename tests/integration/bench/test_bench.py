"""The bench runs as its README says: servers and a worker of its own, one JSON object, nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TRANSACTIONS = 200
pytestmark = [pytest.mark.services, pytest.mark.timeout(240)]


def test_a_short_run_of_transactions_is_read_to_its_end(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
    ran = subprocess.run(
        [sys.executable, "-m", "app", "bench", "transactions", "--count", str(TRANSACTIONS), "--json"],
        cwd=ROOT,
        env={**environment, "SIGHTLINE_STACK_VAR_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    figures = json.loads(ran.stdout)
    assert figures["transactions"] == TRANSACTIONS
    assert 0 < figures["rss_bytes_at_start"] <= figures["peak_rss_bytes"]
    assert not list((tmp_path / "bench" / "run").glob("*.pid")), "everything was ended"
