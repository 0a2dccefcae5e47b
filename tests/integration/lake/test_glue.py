"""The lake in a Glue catalog (MiniStack's): Kafka Connect commits to it, our verbs read, compact and count."""

from __future__ import annotations

import asyncio
import json

import pytest

from app.lake.iceberg.catalog import create_tables, open_catalog
from app.settings import load_settings
from app.topics import PREDICTIONS
from tests.support.lake.connect import LakeInstallation, made_predictions

pytestmark = [pytest.mark.services, pytest.mark.timeout(300)]


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
    await glue.publish(PREDICTIONS, list(made_predictions(2_000)))
    assert await _agrees(glue) == "outcomes=2000 rows=2000 missing=0 extra=0"
    code, told = await glue.verb("compact", "--table", "predictions")
    assert code == 0, told
    code, told = await glue.verb(
        "sql", "--format", "json", "select count(*) as n, count(distinct upload_id) as d from predictions"
    )
    assert code == 0, told
    assert json.loads(told) == [{"n": 2000, "d": 2000}]
    # The sink goes on from the compacted table.
    await glue.publish(PREDICTIONS, list(made_predictions(100, 2_000)))
    assert await _agrees(glue) == "outcomes=2100 rows=2100 missing=0 extra=0"


async def _agrees(lake: LakeInstallation) -> str:
    code, told = await lake.verb("verify", "--table", "predictions", "--wait", "90")
    assert code == 0, told
    return told.splitlines()[-1]
