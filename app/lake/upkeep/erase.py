"""Erasure of an image or a content from all tables of the lake, including its bytes in the store."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from app.domain.lake import LakeTable, table_named
from app.lake.iceberg.erase import Content, Eraser, Image, Target
from app.ports.clock import Clock
from app.settings import Settings
from app.systems.s3.files import LakeStore
from app.topics import DAY_MS, spec_of

# Predictions last: they contain the digests of the image, which a run after an interruption still needs.
_ORDER: Final = ("embeddings", "flagged", "decisions", "removals", "predictions")


@dataclass(frozen=True, slots=True)
class Erased:
    """Rows found in one table, or erased from it. `held_by`: tags and branches that keep them."""

    table: str
    rows: int
    files: int
    deleted_files: int
    held_by: tuple[str, ...]


async def look(eraser: Eraser, target: Target) -> list[Erased]:
    """Return what `erase` would erase. Changes nothing. Raises LakeUnavailable."""
    counted = []
    for row, what in await asyncio.to_thread(lambda: list(_targets(eraser, target))):
        rows, files = await asyncio.to_thread(eraser.count, row, what)
        counted.append(Erased(row.name, rows, files, 0, ()))
    return counted


async def erase(eraser: Eraser, target: Target, store: LakeStore, clock: Clock) -> list[Erased]:
    """Remove the rows from every table, then all older snapshots, then the files that only these needed.

    Can be repeated after any failure, and continues. Safe beside concurrent commits. Readers of older snapshots fail
    from then on. Raises LakeUnavailable, StoreUnavailable.
    """
    done = []
    for row, what in await asyncio.to_thread(lambda: list(_targets(eraser, target))):
        rows, files = await asyncio.to_thread(eraser.count, row, what)
        erased = await asyncio.to_thread(eraser.erase, row, what, clock.now_ms())
        # Also without rows: an earlier run may have been interrupted after it removed them.
        paths = await asyncio.to_thread(eraser.forget, row)
        await store.delete(paths)
        held = await asyncio.to_thread(eraser.still_held, row)
        done.append(Erased(row.name, max(rows, erased), files, len(paths), tuple(held)))
    return done


def _targets(eraser: Eraser, target: Target) -> Iterator[tuple[LakeTable, Target]]:
    for name in _ORDER:
        row = table_named(name)
        if name == "embeddings" and isinstance(target, Image):
            digests = eraser.digests(target)
            if digests:
                yield row, Content(digests)
        else:
            yield row, target


def not_reached(settings: Settings) -> list[str]:
    """Return sentences about places that still contain the erased facts."""
    topics = ", ".join(
        f"{spec.name} ({'for ever' if spec.retention_ms < 0 else f'{spec.retention_ms / DAY_MS:g} days'})"
        for spec in (spec_of(table_named(name).topic) for name in reversed(_ORDER))
    )
    return [
        f"topics, until their retention ends: {topics}; a record that the sink has not read yet comes into the lake "
        "after this, so run it again then",
        "files of the lake that belong to no snapshot (killed writers leave them): `./sightline lake gc` deletes them",
        f"the archive below {settings.lake.archive}, the index, the object itself, dead letters, logs",
        "backups, replicas, and former versions of objects where the bucket keeps versions",
    ]
