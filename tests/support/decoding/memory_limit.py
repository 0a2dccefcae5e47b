"""A control group of Linux that limits memory, for tests in which the kernel ends a process."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_V2 = Path("/sys/fs/cgroup")
_V1 = Path("/sys/fs/cgroup/memory")


@contextmanager
def memory_limit(limit_bytes: int) -> Iterator[Path]:
    """Yield the file `cgroup.procs` of a new group; a process whose id is written there is under the limit.

    Skips the test where no group can be made: that needs Linux, the memory controller and its permission.
    """
    group = None
    try:
        if (_V1 / "memory.limit_in_bytes").exists():
            group = _made(_V1, {"memory.limit_in_bytes": limit_bytes, "memory.swappiness": 0})
        elif "memory" in (_V2 / "cgroup.subtree_control").read_text().split():
            group = _made(_V2, {"memory.max": limit_bytes, "memory.swap.max": 0})
    except OSError as error:
        pytest.skip(f"no control group with a memory limit can be made: {error}")
    if group is None:
        pytest.skip("this machine has no memory controller for control groups")
    try:
        yield group / "cgroup.procs"
    finally:
        group.rmdir()


def _made(parent: Path, limits: dict[str, int]) -> Path:
    group = parent / f"sightline-test-{secrets.token_hex(4)}"
    group.mkdir()
    for name, value in limits.items():
        try:
            (group / name).write_text(str(value))
        except OSError:
            if name != "memory.swap.max" and name != "memory.swappiness":
                group.rmdir()
                raise
    return group
