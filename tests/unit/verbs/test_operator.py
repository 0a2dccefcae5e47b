"""The composition root of operator verbs connects to nothing by itself and closes what a verb used."""

from __future__ import annotations

import pytest

from app.settings import Settings
from app.verbs.operator import operator


class Part:
    def __init__(self, name: str, closed: list[str]) -> None:
        self.name = name
        self._closed = closed

    async def close(self) -> None:
        self._closed.append(self.name)


async def test_parts_are_made_once_and_without_a_connection() -> None:
    async with operator(Settings()) as world:
        assert world.store is world.store
        assert world.index is world.index
        assert world.producer("a") is not world.producer("b")


async def test_parts_are_closed_in_reverse_order_also_after_an_error() -> None:
    closed: list[str] = []
    with pytest.raises(KeyError):
        async with operator(Settings()) as world:
            first, second = world.closed(Part("first", closed)), world.closed(Part("second", closed))
            raise KeyError(first.name, second.name)
    assert closed == ["second", "first"]
