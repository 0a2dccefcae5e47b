"""The limit on open files: raised as far as needed, never lowered, and a refusal where that is not allowed."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from dataclasses import replace

import pytest

from app.errors import StartupRefused
from app.settings import KafkaSettings, Settings, TableSettings
from app.systems.faust.open_files import allow_open_files, files_needed


@pytest.fixture
def hard() -> Iterator[int]:
    """The hard limit, with a soft one of half of it while the test runs."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        pytest.skip("no hard limit here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard // 2, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def soft_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def test_the_soft_limit_follows_the_need_and_never_sinks(hard: int) -> None:
    allow_open_files(hard // 2 + 10)
    assert soft_limit() == hard // 2 + 10
    allow_open_files(100)
    assert soft_limit() == hard // 2 + 10
    allow_open_files(hard)
    assert soft_limit() == hard


def test_a_hard_limit_that_is_too_low_is_a_refusal_with_both_numbers(hard: int) -> None:
    with pytest.raises(StartupRefused, match=f"need {hard + 1} open files and the hard limit is {hard}"):
        allow_open_files(hard + 1)
    assert soft_limit() == hard // 2


def test_the_need_grows_with_tables_partitions_and_files() -> None:
    settings = Settings(kafka=KafkaSettings(partitions=8), tables=TableSettings(max_open_files=128))
    assert 3 * 8 * 128 < files_needed(settings, 3) < 5_000
    assert files_needed(replace(settings, kafka=KafkaSettings(partitions=16)), 3) > files_needed(settings, 3)
