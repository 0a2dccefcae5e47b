"""The archive's files: what each covers, how it is named, and the chain that those of a partition form. Pure.

Files of a partition form a chain of ranges of offsets: each begins where the one before it ended, the first at 0. So
whoever wants to write the next file knows its name without asking, rivals want the same name, and a store that writes
an object once lets one of them win: no offset can be covered twice, and none between two files can be left out.
Names are therefore the start of the range, not the first record's offset: topics that transactions write to have
holes, and a file ends at the offset after its last record, not at the next record.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from app.errors import ArchiveBroken
from app.topics import DECISIONS, EMBEDDINGS, FLAGGED, PREDICTIONS, REMOVED

# What can be archived: results. Tasks and retries are the pipeline's own business and say nothing afterwards.
ARCHIVABLE: Final = (PREDICTIONS, FLAGGED, DECISIONS, REMOVED, EMBEDDINGS)
_DIGITS: Final = 20
_NAME: Final = re.compile(r".*/topic=(?P<topic>[^/]+)/partition=(?P<partition>\d+)/(?P<start>\d{20})\.parquet")


@dataclass(frozen=True, slots=True)
class FileRange:
    """What one file covers: every record of the partition from `start` up to, not including, `end`.

    `read_from` is where reading began. It is `start`, but for the first file of an archive that began late, and after
    records that retention removed before they were archived: then offsets from `start` to `read_from` are missing.
    """

    topic: str
    partition: int
    start: int
    read_from: int
    end: int
    records: int

    def metadata(self) -> dict[str, str]:
        """Return it as the object and the Parquet file carry it."""
        return {
            "topic": self.topic,
            "partition": str(self.partition),
            "start": str(self.start),
            "read-from": str(self.read_from),
            "end": str(self.end),
            "records": str(self.records),
        }


def range_of(metadata: Mapping[str, str], key: str) -> FileRange:
    """Return the range that the metadata of the object `key` tells. Raises ArchiveBroken where name and it disagree."""
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
        raise ArchiveBroken(f"{key} tells another range than its name: {file}")
    return file


def folder_of(prefix: str, topic: str, partition: int | None = None) -> str:
    """Return what the names of all files of a topic, or of one partition, begin with."""
    folder = f"{prefix.strip('/')}/topic={topic}/"
    return folder if partition is None else f"{folder}partition={partition}/"


def name_of(prefix: str, topic: str, partition: int, start: int) -> str:
    """Return the key of the file that begins at `start`. Names of a partition sort by their starts."""
    return f"{folder_of(prefix, topic, partition)}{start:0{_DIGITS}}.parquet"


def place_of(key: str) -> tuple[str, int, int] | None:
    """Return topic, partition and start of a file's key; None for a key that is none."""
    match = _NAME.fullmatch(key)
    return None if match is None else (match["topic"], int(match["partition"]), int(match["start"]))


class Chain:
    """One writer's view of one partition's chain: where the next file begins."""

    def __init__(self, end: int, position: int) -> None:
        """`end` is that of the archive, `position` the offset from which this writer reads on."""
        self.end = end
        self._position = position

    @property
    def missing(self) -> int:
        """How many offsets after the archive's end this writer cannot read; of a new archive: what came before."""
        return max(0, self._position - self.end)

    def covers(self, offset: int) -> bool:
        """Whether the archive holds this record already."""
        return offset < self.end

    def next_file(self, topic: str, partition: int, offsets: Sequence[int]) -> FileRange:
        """Return the range of a file of the records at `offsets`: all that this writer read from `end` on, in order."""
        if not offsets or offsets[0] < max(self.end, self._position):
            raise ValueError(f"records at {offsets[:1]} do not follow {self.end}")
        read_from = max(self.end, self._position)
        return FileRange(topic, partition, self.end, read_from, offsets[-1] + 1, len(offsets))

    def goes_on_at(self, end: int) -> None:
        """Take over the end of the file that stands under the next name, whoever wrote it."""
        if end <= self.end:
            raise ValueError(f"a chain goes forward: {self.end} to {end}")
        self.end = end


@dataclass(frozen=True, slots=True)
class Fault:
    """Offsets that no file covers (`hole`), that were gone when they were to be read (`gone`), or covered twice
    (`overlap`)."""

    kind: str
    start: int
    end: int


def faults(ranges: Iterable[FileRange]) -> Iterator[Fault]:
    """Yield what is wrong with one partition's files, given in the order of their names.

    Where an archive begins is no fault: it may have begun late, and old files may have been removed.
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
