"""The verbs of the lake as an operator types them: what they print, and their exit codes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from app.stack.local import LocalStack
from tests.support.lake.written_lake import StagedLake, lake_settings, predictions
from tests.support.stack import TestNames
from tests.support.verbs import run_verb

pytestmark = pytest.mark.services


class Operator:
    """Types verbs and reads what they print."""

    def __init__(self, stack: LocalStack, lake: StagedLake) -> None:
        self.lake = lake
        settings = lake.settings
        self._variables = stack.environment | {
            "SIGHTLINE_KAFKA_PREFIX": settings.kafka.prefix,
            "SIGHTLINE_LAKE_CATALOG_URI": settings.lake.catalog_uri,
            "SIGHTLINE_LAKE_WAREHOUSE": settings.lake.warehouse,
            "SIGHTLINE_LAKE_ARCHIVE": settings.lake.archive,
        }

    async def types(self, *arguments: str) -> tuple[int, str, str]:
        return await run_verb(self._variables, "lake", *arguments)


@pytest_asyncio.fixture
async def operator(stack: LocalStack, names: TestNames, topics: str, tmp_path: Path) -> AsyncIterator[Operator]:
    async with StagedLake(lake_settings(stack, topics, names.bucket, tmp_path), stack) as lake:
        yield Operator(stack, lake)


async def test_from_small_files_to_a_wiped_catalog_and_back(operator: Operator) -> None:
    lake = operator.lake
    for start in (0, 10, 20):
        await lake.fill(predictions(10, start=start))
    code, out, err = await operator.types("verify")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "outcomes=30 rows=30 missing=0 extra=0"
    assert len([line for line in out.splitlines() if line.endswith("missing=0 extra=0")]) == 5

    code, out, _ = await operator.types("compact")
    assert code == 0
    assert out.startswith("predictions ")
    assert "3 files became 1" in out
    assert (await operator.types("compact"))[1] == "nothing to join\n"
    assert (await operator.types("expire", "--table", "predictions", "--older-than", "0"))[1] == (
        "predictions: 3 snapshots expired, 1 left\n"
    )
    code, out, _ = await operator.types("gc", "--dry-run", "--json")
    assert (code, json.loads(out)["predictions"]) == (0, {"files": 0, "bytes": 0, "uploads": 0})

    lake.catalog.drop_table((lake.settings.lake.namespace, "predictions"))
    code, out, _ = await operator.types("verify", "--table", "predictions")
    assert code == 1
    assert "lake register" in out.splitlines()[0]
    assert out.splitlines()[-1] == "outcomes=30 rows=0 missing=30 extra=0"
    for verb in (
        ("gc", "--table", "predictions"),
        ("compact",),
        ("expire",),
        ("repair",),
        # It must not say that it erased what it did not find.
        ("erase", "--image", "s3://images/images/3.jpg", "--yes"),
    ):
        code, _, err = await operator.types(*verb)
        assert code == 2, verb
        assert "lake register" in err
    code, out, _ = await operator.types("register")
    assert code == 0
    assert out.splitlines()[0] == "flagged: is attached"
    assert out.splitlines()[-1] == "erasures: no files in the warehouse"
    code, out, _ = await operator.types("repair", "--table", "predictions")
    assert (code, out) == (0, "predictions: 0 rows brought, 0 doubles taken out, 0 late\n")
    code, out, _ = await operator.types("verify", "--table", "predictions", "--json")
    assert (code, json.loads(out)["agrees"]) == (0, True)


async def test_erasing_is_a_dry_run_until_told(operator: Operator) -> None:
    lake = operator.lake
    await lake.fill(predictions(10, bucket="images"))
    code, out, _ = await operator.types("erase", "--image", "s3://images/images/3.jpg")
    assert code == 0
    assert "predictions: 1 rows in 1 files would go" in out
    assert out.endswith("nothing was changed; --yes does it\n")
    assert len(lake.rows()) == 10
    code, out, _ = await operator.types("erase", "--image", "s3://images/images/3.jpg", "--yes", "--json")
    found = {each["table"]: each["rows"] for each in json.loads(out)["tables"]}
    assert (code, found["predictions"], len(lake.rows())) == (0, 1, 9)
    code, out, _ = await operator.types("verify", "--table", "predictions")
    assert (code, out.splitlines()[-1]) == (0, "outcomes=10 rows=9 missing=0 extra=0 erased=1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("verify", "--table", "images"), "--table 'images': one of predictions, flagged"),
        (("compact", "--since", "yesterday"), "--since 'yesterday': give a UTC day"),
        (("gc", "--older-than", "0.1"), "may belong to a commit"),
        (("erase",), "name one of --image"),
        (("erase", "--sha256", "abc"), "64 hex digits"),
    ],
)
async def test_what_makes_no_sense_is_one_sentence(operator: Operator, arguments: tuple[str, ...], words: str) -> None:
    code, out, err = await operator.types(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("sightline: ")
    assert words in err
