"""Files of the archive: the offsets that each file covers, its name, and the chain of a partition's files. Pure.

The files of a partition form a chain of offset ranges: each range begins where the previous one ended, the first at 0.
A writer therefore knows the name of the next file without a request. Concurrent writers choose the same name, and a
conditional write lets exactly one of them succeed. So no offset is covered twice, and none between files is missing.
A file is named for the start of its range, not for the offset of its first record, because transactional topics have
holes in their offsets. Its range ends at the offset after its last record, not at the next record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.errors import ArchiveBroken
from app.topics import DECISIONS, EMBEDDINGS, FLAGGED, PREDICTIONS, REMOVED

# Topics that can be archived: results. Tasks and retries are internal to the pipeline and of no use afterwards.
ARCHIVABLE: Final = (PREDICTIONS, FLAGGED, DECISIONS, REMOVED, EMBEDDINGS)
_DIGITS: Final = 20
_NAME: Final = re.compile(r".*/topic=(?P<topic>[^/]+)/partition=(?P<partition>\d+)/(?P<start>\d{20})\.parquet")


@dataclass(frozen=True, slots=True)
class FileRange:
    """Range of offsets of one file: every record of the partition from `start` (inclusive) to `end` (exclusive).

    `read_from` is the offset where reading began, usually `start`. It is larger in the first file of an archive that
    began late, and after records that retention removed before they were archived: then the offsets from `start` to
    `read_from` are missing.
    """

    topic: str
    partition: int
    start: int
    read_from: int
    end: int
    records: int

    def metadata(self) -> dict[str, str]:
        """Return the range as metadata of the object and of the Parquet file."""
        return {
            "topic": self.topic,
            "partition": str(self.partition),
            "start": str(self.start),
            "read-from": str(self.read_from),
            "end": str(self.end),
            "records": str(self.records),
        }


def range_of(metadata: Mapping[str, str], key: str) -> FileRange:
    """Return the range in the metadata of the object `key`. Raises ArchiveBroken if it contradicts the name."""
    try:
        file = FileRange(
            metadata["topic"],
            int(metadata["partition"]),
            int(metadata["start"]),
            int(metadata["read-from"]),
            int(metadata["end"]),
            int(metadata["records"]),
        )
    except (KeyError, ValueError) as error:
        raise ArchiveBroken(f"{key} is no file of the archive: its metadata lack {error}") from error
    if place_of(key) != (file.topic, file.partition, file.start) or not file.start <= file.read_from < file.end:
        raise ArchiveBroken(f"{key}: the range in its metadata contradicts its name: {file}")
    return file


def folder_of(prefix: str, topic: str, partition: int | None = None) -> str:
    """Return the common prefix of the names of all files of a topic, or of one partition."""
    folder = f"{prefix.strip('/')}/topic={topic}/"
    return folder if partition is None else f"{folder}partition={partition}/"


def name_of(prefix: str, topic: str, partition: int, start: int) -> str:
    """Return the key of the file that begins at `start`. Names of a partition sort by their starts."""
    return f"{folder_of(prefix, topic, partition)}{start:0{_DIGITS}}.parquet"


def place_of(key: str) -> tuple[str, int, int] | None:
    """Return topic, partition and start of a file's key, or None if `key` does not name an archive file."""
    match = _NAME.fullmatch(key)
    return None if match is None else (match["topic"], int(match["partition"]), int(match["start"]))


class Chain:
    """One writer's view of one partition's chain: where the next file begins."""

    def __init__(self, end: int, position: int) -> None:
        """Begin at `end`, the end of the archive; `position` is the offset from which this writer continues to read."""
        self.end = end
        self._position = position

    @property
    def missing(self) -> int:
        """Number of offsets after the archive's end that this writer cannot read; in a new archive all earlier ones."""
        return max(0, self._position - self.end)

    def covers(self, offset: int) -> bool:
        """Return whether the archive already contains this record."""
        return offset < self.end

    def next_file(self, topic: str, partition: int, offsets: Sequence[int]) -> FileRange:
        """Return the range of a file with the records at `offsets`: all that this writer read since `end`, in order."""
        if not offsets or offsets[0] < max(self.end, self._position):
            raise ValueError(f"records at {offsets[:1]} do not follow {self.end}")
        read_from = max(self.end, self._position)
        return FileRange(topic, partition, self.end, read_from, offsets[-1] + 1, len(offsets))

    def goes_on_at(self, end: int) -> None:
        """Continue at `end`, the end of the file that exists under the next name. Any writer may have written it."""
        if end <= self.end:
            raise ValueError(f"a chain goes forward: {self.end} to {end}")
        self.end = end


@dataclass(frozen=True, slots=True)
class Fault:
    """Offsets that are wrong in an archive.

    `kind`: `hole` (no file covers them), `gone` (retention removed them before they were read) or `overlap` (covered
    twice).
    """

    kind: str
    start: int
    end: int


def faults(ranges: Iterable[FileRange]) -> Iterator[Fault]:
    """Yield the faults of one partition's files, which are given in the order of their names.

    A first file with a start above 0 is not a fault: the archive may have begun late, or old files were removed.
    """
    before: FileRange | None = None
    for file in ranges:
        if before is not None:
            if file.start > before.end:
                yield Fault("hole", before.end, file.start)
            elif file.start < before.end:
                yield Fault("overlap", file.start, before.end)
            if file.read_from > file.start:
                yield Fault("gone", file.start, file.read_from)
        before = file
