"""The lake in a Glue catalog (MiniStack's): Kafka Connect commits to it, our verbs read, compact and count."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys

import pytest

from app.adapters.iceberg import create_tables, open_catalog
from app.settings import ROOT, load_settings
from app.topics import PREDICTIONS
from tests.support.connect import LakeInstallation, made_predictions

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


def _verb(lake: LakeInstallation, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app", "lake", *arguments],
        cwd=ROOT,
        env=lake.environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


async def test_connect_fills_tables_of_a_glue_catalog_and_the_verbs_work_on_them(lake: LakeInstallation) -> None:
    variables = {
        **lake.variables,
        "SIGHTLINE_LAKE_CATALOG": "glue",
        "SIGHTLINE_LAKE_CATALOG_URI": lake.stack.s3_endpoint,
        "SIGHTLINE_LAKE_NAMESPACE": f"{lake.settings.lake.namespace}_glue",
    }
    glue = LakeInstallation(lake.stack, load_settings(variables), variables)
    made = await asyncio.to_thread(lambda: create_tables(open_catalog(glue.settings), glue.settings))
    assert "predictions created" in made
    await glue.apply("predictions")
    await glue.publish(PREDICTIONS, list(made_predictions(1_200)))
    verified = await asyncio.to_thread(_verb, glue, "verify", "--table", "predictions", "--wait", "90")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert verified.stdout.splitlines()[-1] == "outcomes=1200 rows=1200 missing=0 extra=0"
    await glue.publish(PREDICTIONS, list(made_predictions(800, 1_200)))
    await asyncio.to_thread(_verb, glue, "verify", "--table", "predictions", "--wait", "90")
    compacted = await asyncio.to_thread(_verb, glue, "compact", "--table", "predictions")
    assert compacted.returncode == 0, compacted.stderr
    counted = await asyncio.to_thread(
        _verb, glue, "sql", "--format", "json", "select count(*) as n, count(distinct upload_id) as d from predictions"
    )
    assert counted.returncode == 0, counted.stderr
    assert json.loads(counted.stdout) == [{"n": 2000, "d": 2000}]
    # The sink goes on from the compacted table.
    await glue.publish(PREDICTIONS, list(made_predictions(100, 2_000)))
    verified = await asyncio.to_thread(_verb, glue, "verify", "--table", "predictions", "--wait", "90")
    assert verified.stdout.splitlines()[-1] == "outcomes=2100 rows=2100 missing=0 extra=0", verified.stdout
