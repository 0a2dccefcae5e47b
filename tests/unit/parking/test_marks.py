"""The file of the records in hand: the marks of a dead process, and how the next process counts them."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from app.errors import StartupRefused
from app.parking.marks import MarksFile, open_marks
from app.settings import ROOT
from app.streaming.ports import SourcePartition
from app.streaming.suspects import NO_MARK, Place

TASKS = SourcePartition("x.image.tasks.v1", 3)
BACKFILL = SourcePartition("x.image.backfill.v1", 3)
IDS = {TASKS.topic: "id-1", BACKFILL.topic: "id-2"}
# Marks two records, takes one back and dies as the kernel would end it.
DYING = """
import os, signal, sys
from pathlib import Path
from app.streaming.suspects import Place
from tests.unit.parking.test_marks import BACKFILL, TASKS, opened
marks = opened(Path(sys.argv[1]))
done = marks.put(Place(TASKS, 6))
marks.put(Place(TASKS, 2**40))
marks.put(Place(BACKFILL, 0))
marks.clear(done)
marks.note_run(7)
os.kill(os.getpid(), signal.SIGKILL)
"""


def opened(folder: Path, ids: dict[str, str] | None = None, capacity: int = 4) -> MarksFile:
    return open_marks(folder, "cluster", "group", ids or IDS, capacity)


def dies(folder: Path) -> None:
    """Run a process that dies with two records in hand."""
    died = subprocess.run([sys.executable, "-c", DYING, str(folder)], cwd=ROOT, check=False)
    assert died.returncode == -signal.SIGKILL


def test_what_a_killed_process_had_in_hand_is_counted_once_for_each_death(tmp_path: Path) -> None:
    assert opened(tmp_path).last_run.crashes == {}
    for deaths in (1, 2, 3):
        dies(tmp_path)
        last = opened(tmp_path).last_run
        assert last.crashes == {Place(TASKS, 2**40): deaths, Place(BACKFILL, 0): deaths}
        assert (last.died, last.letters) == (True, 7)
        again = opened(tmp_path).last_run
        assert (again.crashes, again.died) == (last.crashes, False), "a start that refuses counts nothing"


def test_an_end_in_order_leaves_nobody_suspected_and_keeps_who_was(tmp_path: Path) -> None:
    marks = opened(tmp_path)
    marks.save({Place(TASKS, 5): 2})
    marks.put(Place(TASKS, 9))
    marks.close()
    assert opened(tmp_path).last_run.crashes == {Place(TASKS, 5): 2}


def test_an_error_that_names_its_record_leaves_that_one_alone(tmp_path: Path) -> None:
    marks = opened(tmp_path)
    marks.put(Place(TASKS, 1))
    guilty = marks.put(Place(TASKS, 2))
    marks.put(Place(TASKS, 3))
    marks.clear_all(but=guilty)
    assert opened(tmp_path).last_run.crashes == {Place(TASKS, 2): 1}


def test_a_death_between_the_count_and_the_new_map_counts_once(tmp_path: Path) -> None:
    dies(tmp_path)
    (left,) = tmp_path.glob("in-hand-*.map")
    shutil.copy(left, tmp_path / "kept")
    assert set(opened(tmp_path).last_run.crashes.values()) == {1}
    (tmp_path / "kept").replace(left)
    assert set(opened(tmp_path).last_run.crashes.values()) == {1}


def test_offsets_of_a_topic_that_was_made_anew_accuse_nobody(tmp_path: Path) -> None:
    dies(tmp_path)
    assert opened(tmp_path, {**IDS, TASKS.topic: "id-3"}).last_run.crashes == {}
    assert len(list(tmp_path.iterdir())) == 1, "the marks of the topics that are gone are gone too"


def test_files_that_cannot_be_read_accuse_nobody(tmp_path: Path) -> None:
    dies(tmp_path)
    (left,) = tmp_path.glob("in-hand-*.map")
    for broken in (b"", b"SLMARKS1", bytes(500), left.read_bytes()[:90], b"SLMARKS1" + b"\xff" * 500):
        left.write_bytes(broken)
        assert opened(tmp_path).last_run.crashes in ({}, {Place(TASKS, 2**40): 1})
        for kept in tmp_path.glob("suspects-*.json"):
            kept.write_text('{"run": 1, "suspects": [["x", 1]]}')
    assert opened(tmp_path).last_run.crashes == {}


def test_more_records_than_slots_are_not_marked_and_slots_are_used_again(tmp_path: Path) -> None:
    marks = opened(tmp_path, capacity=2)
    first, _, third = (marks.put(Place(TASKS, number)) for number in range(3))
    assert third == NO_MARK
    marks.clear(third)
    marks.clear(first)
    assert marks.put(Place(TASKS, 8)) == first
    assert set(opened(tmp_path).last_run.crashes) == {Place(TASKS, 1), Place(TASKS, 8)}


def test_a_folder_that_cannot_be_written_any_more_does_not_end_the_process(tmp_path: Path) -> None:
    folder = tmp_path / "worker"
    folder.mkdir()
    marks = opened(folder)
    shutil.rmtree(folder)
    marks.save({Place(TASKS, 5): 2})
    marks.clear(marks.put(Place(TASKS, 5)))


def test_a_folder_that_cannot_be_written_at_the_start_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupRefused, match="cannot keep the records in hand"):
        opened(tmp_path / "absent")


def test_suspects_are_bounded_and_those_of_most_crashes_stay(tmp_path: Path) -> None:
    marks = opened(tmp_path, capacity=2)
    marks.save({Place(TASKS, number): 1 + (number == 50) for number in range(100)})
    marks.put(Place(TASKS, 1000))
    crashes = opened(tmp_path, capacity=2).last_run.crashes
    assert len(crashes) == 8
    assert crashes[Place(TASKS, 50)] == 2
