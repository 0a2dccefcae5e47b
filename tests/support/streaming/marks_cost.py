"""Benchmark of the marks on a record's way: `python -m tests.support.streaming.marks_cost [RECORDS]`."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from pathlib import Path

from app.parking.marks import open_marks
from app.streaming.ports import SourcePartition
from app.streaming.suspects import Place, Suspects

_IN_HAND = 256


def main() -> None:
    """Print the microseconds of one record: admitted, looked up, marked and unmarked, with 256 in hand."""
    records = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    source = SourcePartition("image.tasks.v1", 0)
    with tempfile.TemporaryDirectory() as folder:
        for title, count in (("nobody is suspected", 0), ("256 suspects of another partition", 256)):
            marks = open_marks(Path(folder), "cluster", "group", {source.topic: "id"}, _IN_HAND)
            other = SourcePartition(source.topic, 1)
            suspects = Suspects(marks, {Place(other, number): 1 for number in range(count)})
            held = [suspects.begin(source, number) for number in range(_IN_HAND - 1)]
            began = time.perf_counter()
            for number in range(records):
                admission = suspects.admitted(source, number)
                with contextlib.suppress(StopIteration):
                    admission.send(None)
                in_hand = suspects.begin(source, number)
                suspects.given_up(source, number)
                in_hand.released()
                suspects.note_run(0)
            seconds = time.perf_counter() - began
            print(f"{title}: {seconds / records * 1e6:.2f} µs a record ({records} records, {len(held) + 1} in hand)")
            marks.close()


if __name__ == "__main__":
    main()
