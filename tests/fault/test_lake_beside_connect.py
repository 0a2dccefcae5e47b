"""The lake's verbs beside Kafka Connect itself: it goes on from snapshots of ours, also after it was killed."""

from __future__ import annotations

import asyncio
from itertools import islice

import pytest

from app.stack.local import CONNECT
from app.topics import PREDICTIONS
from tests.support.lake.connect import LakeInstallation, made_predictions

pytestmark = [pytest.mark.services, pytest.mark.timeout(590)]


async def test_connect_goes_on_from_a_compacted_and_expired_table_after_a_kill(lake: LakeInstallation) -> None:
    made = made_predictions(14_000, bucket="b")
    await lake.apply("predictions")
    for _ in range(2):
        await lake.publish(PREDICTIONS, list(islice(made, 3000)))
        code, out = await lake.verb("verify", "--table", "predictions", "--wait", "90")
        assert code == 0, out
    # Beside commits that go on.
    publishing = asyncio.create_task(lake.publish(PREDICTIONS, list(islice(made, 6000))))
    for verb in (
        ("compact", "--table", "predictions"),
        ("expire", "--table", "predictions", "--older-than", "0"),
        ("erase", "--image", "s3://b/made/7.jpg", "--yes"),
    ):
        code, out = await lake.verb(*verb)
        assert code == 0, out
    await publishing
    code, out = await lake.verb("verify", "--table", "predictions", "--wait", "90")
    assert code == 0, out
    # The only snapshot left is one of ours: the coordinator that comes next finds its progress there or nowhere.
    await lake.verb("compact", "--table", "predictions")
    code, out = await lake.verb("expire", "--table", "predictions", "--older-than", "0")
    assert out.endswith(", 1 left\n"), out
    await lake.stack.kill(CONNECT)
    await lake.publish(PREDICTIONS, list(islice(made, 2000)))
    await lake.stack.restart(CONNECT)
    code, out = await lake.verb("verify", "--table", "predictions", "--wait", "120")
    assert code == 0, out
    assert out.splitlines()[-1] == "outcomes=14000 rows=13999 missing=0 extra=0 erased=1"
