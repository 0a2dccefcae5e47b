"""Compaction plan: the small files of one day that are merged into larger ones. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# A file of at least three quarters of the target size is not rewritten: that would save a quarter of a file at most.
_FULL: Final = 0.75
# Upper bound of a group, in targets. Its files are read, sorted and written together: that takes disk for all its rows
# and 32 bytes of memory for each row.
GROUP_TARGETS: Final = 4


@dataclass(frozen=True, slots=True)
class Candidate:
    """A data file of one day. `order` is the sort value of its first row."""

    path: str
    size_bytes: int
    order: int


@dataclass(frozen=True, slots=True)
class Group:
    """Files that are merged into `outputs` files of about the target size."""

    paths: tuple[str, ...]
    outputs: int


def plan(files: Sequence[Candidate], target_bytes: int) -> tuple[Group, ...]:
    """Return the groups of files of one day to merge.

    Each file is in at most one group. Each group becomes fewer files than it had. No group is larger than GROUP_TARGETS
    times the target. Neighbours in sort order are merged, so the files of a day overlap little. The result is empty if
    no merge would reduce the number of files, so repeated runs terminate.
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
