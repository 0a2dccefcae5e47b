"""The local stack's own promises, on its real servers."""

from __future__ import annotations

import pytest

from app.adapters.kafka_admin import check_topics, topic_partitions
from app.errors import StartupRefused
from app.stack.local import LocalStack
from app.topics import CONTROL, TOPICS
from tests.support.stack import TEST_PARTITIONS, TestNames

pytestmark = pytest.mark.services


async def test_topics_lie_as_declared(stack: LocalStack, topics: str) -> None:
    counts = await topic_partitions(stack.kafka)
    assert {spec.name: counts[topics + spec.name] for spec in TOPICS} == {
        spec.name: 1 if spec.name == CONTROL else TEST_PARTITIONS for spec in TOPICS
    }
    await check_topics(stack.kafka, partitions=TEST_PARTITIONS, prefix=topics)


async def test_a_missing_topic_is_refused_by_name_with_the_command(stack: LocalStack, names: TestNames) -> None:
    with pytest.raises(StartupRefused, match=rf"{names.prefix}.* does not exist .*stack init"):
        await check_topics(stack.kafka, partitions=TEST_PARTITIONS, prefix=names.prefix)


async def test_a_wrong_partition_count_is_refused(stack: LocalStack, topics: str) -> None:
    with pytest.raises(StartupRefused, match=r"has 4 partitions, expected 5"):
        await check_topics(stack.kafka, partitions=5, prefix=topics)
