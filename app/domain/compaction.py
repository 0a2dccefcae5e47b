"""Which small files of one day are joined: a pure plan, so that it can be tested for every shape of a day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# A file of three quarters of the target is left alone: writing it again would gain a quarter of a file.
_FULL: Final = 0.75
# Files of one group are read, sorted and written together: so much disk for its rows, and 32 bytes of memory a row.
GROUP_TARGETS: Final = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A data file of one day. `order` is where its rows begin in the order that files are sorted by."""

    path: str
    size_bytes: int
    order: int


@dataclass(frozen=True, slots=True)
class Group:
    """Files that become `outputs` files of about the target size."""

    paths: tuple[str, ...]
    outputs: int


def plan(files: Sequence[Candidate], target_bytes: int) -> tuple[Group, ...]:
    """Return what to join of one day.

    Each file is in one group at most, each group becomes fewer files than it had, and no group is larger than
    GROUP_TARGETS times the target. Neighbours in order are joined, so that files of a day hold ranges that hardly meet.
    Nothing is returned once nothing can be gained: repeated runs come to an end.
    """
    small = sorted((file for file in files if file.size_bytes < _FULL * target_bytes), key=lambda file: file.order)
    groups: list[list[Candidate]] = []
    size = 0
    for file in small:
        if not groups or size + file.size_bytes > GROUP_TARGETS * target_bytes:
            groups.append([])
            size = 0
        groups[-1].append(file)
        size += file.size_bytes
    planned = (
        Group(
            tuple(file.path for file in group),
            max(1, math.ceil(sum(file.size_bytes for file in group) / target_bytes)),
        )
        for group in groups
    )
    return tuple(group for group in planned if group.outputs < len(group.paths))
