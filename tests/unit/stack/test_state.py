"""What the running stack tells other processes."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from app.settings import load_settings
from app.stack.processes import ProcessIdentity, identify_process, read_pid_file, write_pid_file
from app.stack.state import (
    ServerState,
    StackState,
    load_state,
    remove_state,
    save_state,
    state_file,
    with_running_stack,
)


def _state() -> StackState:
    return StackState(
        owner=identify_process(os.getpid()),
        s3_kind="ministack",
        environment={"SIGHTLINE_KAFKA_BOOTSTRAP": "127.0.0.1:1", "SIGHTLINE_KAFKA_PARTITIONS": "3"},
        servers=(ServerState("kafka", 5, "127.0.0.1:1", "kafka.log"),),
    )


def test_a_state_is_read_back_as_it_was_saved(tmp_path: Path) -> None:
    state = _state()
    save_state(tmp_path, state)
    assert load_state(tmp_path) == state
    assert state_file(tmp_path).stat().st_mode & 0o077 == 0, "it holds keys"
    remove_state(tmp_path)
    assert load_state(tmp_path) is None


def test_the_state_of_a_killed_stack_does_not_count(tmp_path: Path) -> None:
    """The pid may live, as another process: the start time tells."""
    state = _state()
    save_state(tmp_path, dataclasses.replace(state, owner=ProcessIdentity(os.getpid(), "another boot:1")))
    assert load_state(tmp_path) is None


def test_a_file_that_is_no_state_does_not_count(tmp_path: Path) -> None:
    for text in ("", "{", "[]", json.dumps({"owner": {}})):
        state_file(tmp_path).write_text(text)
        assert load_state(tmp_path) is None


def test_the_caller_wins_over_the_running_stack_and_settings_take_both(tmp_path: Path) -> None:
    save_state(tmp_path, _state())
    given = {"SIGHTLINE_STACK_VAR_DIR": str(tmp_path), "SIGHTLINE_KAFKA_PARTITIONS": "7", "HOME": "/home/x"}
    merged = with_running_stack(given)
    settings = load_settings(merged)
    assert (settings.kafka.bootstrap, settings.kafka.partitions) == ("127.0.0.1:1", 7)
    assert given.keys() == {"SIGHTLINE_STACK_VAR_DIR", "SIGHTLINE_KAFKA_PARTITIONS", "HOME"}, "unchanged"


def test_without_a_stack_the_environment_is_itself(tmp_path: Path) -> None:
    given = {"SIGHTLINE_STACK_VAR_DIR": str(tmp_path)}
    assert with_running_stack(given) == given


def test_pid_files(tmp_path: Path) -> None:
    here = identify_process(os.getpid())
    write_pid_file(tmp_path / "x.pid", here, ProcessIdentity(1, "a"))
    assert read_pid_file(tmp_path / "x.pid") == (here, ProcessIdentity(1, "a"))
    (tmp_path / "half.pid").write_text('{"pid": 3')
    assert read_pid_file(tmp_path / "half.pid") is None
    assert read_pid_file(tmp_path / "absent.pid") is None
    assert here.alive()
    assert not ProcessIdentity(here.pid, here.started + "0").alive()
