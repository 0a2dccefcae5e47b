"""The positions of the records in hand in a memory-mapped file that outlives the process, and the suspects in another.

A slot of the map is written and cleared by plain stores to memory. The kernel keeps them when the process dies, also by
`kill -9`; nothing is synced to the disk. After a power cut the map may be older than the death: a record may be missed
or suspected wrongly, which costs one more crash or one slow record, never an outcome.

    in-hand-<hash>.map     header, then one slot for each record that can be in hand; made anew at each start
    suspects-<hash>.json   positions and crashes; replaced as a whole

The hash is that of cluster id, consumer group and topic ids: offsets of topics that were made anew mean other records.
"""

from __future__ import annotations

import hashlib
import json
import logging
import mmap
import os
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import StartupRefused
from app.streaming.ports import SourcePartition
from app.streaming.suspects import NO_MARK, Place

logger = logging.getLogger(__name__)
_MAGIC: Final = b"SLMARKS1"
# Magic, id of the run, its checksum, dead letters one after another.
_HEADER: Final = struct.Struct("<8s8sII")
_HEADER_BYTES: Final = 64
_LETTERS_AT: Final = 20
_NO_RUN: Final = bytes(8)
# Topic (its number in the sorted names and one more; 0: free), partition, offset.
_SLOT: Final = struct.Struct("<IIQ")
_SOURCE: Final = struct.Struct("<II")
_OFFSET: Final = struct.Struct("<Q")
_FREE: Final = bytes(_SOURCE.size)
# Suspects of partitions that went to other workers stay until these come back; so many are kept at most, for each slot.
_KEPT: Final = 4


@dataclass(frozen=True, slots=True)
class LastRun:
    """The traces of the run before: suspects, whether it died, and the dead letters that it released in a row."""

    crashes: Mapping[Place, int]
    died: bool
    letters: int


class MarksFile:
    """See app.streaming.suspects.Marks. One process has the folder (its lock is that of WorkerHome).

    Raises OSError when it is made.
    """

    def __init__(self, folder: Path, name: str, topics: Sequence[str], capacity: int) -> None:
        self._map_path = folder / f"in-hand-{name}.map"
        self._suspects_path = folder / f"suspects-{name}.json"
        self._topics = sorted(topics)
        self._capacity = capacity
        self._sources: dict[SourcePartition, bytes] = {}
        self._free = list(range(capacity - 1, -1, -1))
        # The run whose death is in the kept suspects.
        self._counted = _NO_RUN
        self._map: mmap.mmap | None = None
        self.last_run = self._open()

    def _open(self) -> LastRun:
        """Count the crash of the run before, if it died, and begin a run without marks."""
        run, letters, places = self._marks_before()
        self._counted, crashes = self._suspects_before()
        died = bool(places) and run != self._counted
        if died:
            for place in places:
                crashes[place] = crashes.get(place, 0) + 1
            worst = sorted(crashes.items(), key=lambda pair: -pair[1])[: _KEPT * max(self._capacity, len(places))]
            crashes = dict(worst)
            self._counted = run
            self._write(crashes)
        # From here on the marks are counted: a death before the map is made anew does not count them again.
        self._begin(os.urandom(len(_NO_RUN)), letters)
        return LastRun(crashes, died, letters)

    def _begin(self, run: bytes, letters: int) -> None:
        size = _HEADER_BYTES + self._capacity * _SLOT.size
        new = self._map_path.with_suffix(".new")
        # Written, not only made that long: a full disk must show here and not at a store to the map.
        new.write_bytes(_HEADER.pack(_MAGIC, run, zlib.crc32(run), letters).ljust(size, b"\0"))
        with new.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)
        new.replace(self._map_path)

    def _marks_before(self) -> tuple[bytes, int, set[Place]]:
        try:
            whole = self._map_path.read_bytes()
        except FileNotFoundError:
            return _NO_RUN, 0, set()
        magic, run, checksum, letters = _HEADER.unpack_from(whole.ljust(_HEADER_BYTES, b"\0"))
        if magic != _MAGIC or checksum != zlib.crc32(run):
            logger.warning("%s is not readable; no record is suspected", self._map_path)
            return _NO_RUN, 0, set()
        slots = whole[_HEADER_BYTES : len(whole) - (len(whole) - _HEADER_BYTES) % _SLOT.size]
        return (
            run,
            letters,
            {
                Place(SourcePartition(self._topics[topic - 1], partition), offset)
                for topic, partition, offset in _SLOT.iter_unpack(slots)
                if 0 < topic <= len(self._topics)
            },
        )

    def _suspects_before(self) -> tuple[bytes, dict[Place, int]]:
        try:
            kept = json.loads(self._suspects_path.read_text())
            rows = [(str(row[0]), int(row[1]), int(row[2]), int(row[3])) for row in kept["suspects"]]
            crashes = {Place(SourcePartition(topic, number), at): count for topic, number, at, count in rows}
            return bytes.fromhex(kept["run"]), crashes
        except FileNotFoundError:
            return _NO_RUN, {}
        except (ValueError, KeyError, TypeError, IndexError):
            logger.warning("%s is not readable; no record is suspected", self._suspects_path)
            return _NO_RUN, {}

    # --- Marks ---

    def put(self, place: Place) -> int:
        """See Marks. With more records in hand than slots, those beyond are not marked."""
        if self._map is None or not self._free:
            return NO_MARK
        source = self._sources.get(place.source)
        if source is None:
            source = _SOURCE.pack(self._topics.index(place.source.topic) + 1, place.source.partition)
            self._sources[place.source] = source
        mark = self._free.pop()
        at = _HEADER_BYTES + mark * _SLOT.size
        # The offset first: a slot counts once its topic is there.
        self._map[at + _SOURCE.size : at + _SLOT.size] = _OFFSET.pack(place.offset)
        self._map[at : at + _SOURCE.size] = source
        return mark

    def clear(self, mark: int) -> None:
        """See Marks."""
        if mark == NO_MARK or self._map is None:
            return
        at = _HEADER_BYTES + mark * _SLOT.size
        self._map[at : at + _SOURCE.size] = _FREE
        self._free.append(mark)

    def clear_all(self, but: int = NO_MARK) -> None:
        """See Marks. The process ends after it, so no slot becomes free."""
        if self._map is None:
            return
        for mark in range(self._capacity):
            if mark != but:
                at = _HEADER_BYTES + mark * _SLOT.size
                self._map[at : at + _SOURCE.size] = _FREE

    def note_run(self, letters: int) -> None:
        """See Marks."""
        if self._map is not None:
            self._map[_LETTERS_AT : _LETTERS_AT + 4] = struct.pack("<I", letters)

    def save(self, crashes: Mapping[Place, int]) -> None:
        """See Marks. On a disk that is full the older ones stay: they lie before the committed offset."""
        try:
            self._write(crashes)
        except OSError as error:
            logger.warning("cannot keep the suspects: %s", error)

    def _write(self, crashes: Mapping[Place, int]) -> None:
        rows = [[*place.source, place.offset, count] for place, count in crashes.items()]
        new = self._suspects_path.with_suffix(".new")
        new.write_text(json.dumps({"run": self._counted.hex(), "suspects": rows}) + "\n")
        new.replace(self._suspects_path)

    def close(self) -> None:
        """Take all marks back and close the map."""
        self.clear_all()
        if self._map is not None:
            self._map.close()
            self._map = None


def open_marks(folder: Path, cluster: str, group: str, topics: Mapping[str, str], capacity: int) -> MarksFile:
    """Return the marks of a worker in its locked folder. Blocks. Raises StartupRefused.

    `topics` are the names and ids of all topics that it reads. Files of another cluster, group or set of topics are
    removed: they say nothing of these records.
    """
    origin = json.dumps([cluster, group, sorted(topics.items())])
    name = hashlib.sha256(origin.encode()).hexdigest()[:16]
    try:
        for old in (*folder.glob("in-hand-*"), *folder.glob("suspects-*")):
            if not old.stem.endswith(name):
                old.unlink()
        return MarksFile(folder, name, list(topics), capacity)
    except OSError as error:
        raise StartupRefused(f"cannot keep the records in hand in {folder}: {error}") from error
