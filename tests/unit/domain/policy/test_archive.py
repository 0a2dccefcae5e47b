from __future__ import annotations

from pathlib import Path

import pytest

from app.domain.policy import parse_policy
from app.errors import PolicyError
from app.pipeline.moderate import policy_output
from app.pipeline.policies import PolicyArchive, known_labels, load_policy, read_policy
from app.settings import ROOT
from schemas.records import ControlRecord

TEXT = (ROOT / "policies" / "default.yaml").read_text()
NOW = parse_policy(TEXT, "now")
OLD_TEXT = TEXT.replace("threshold: 0.95", "threshold: 0.9")
OLD = parse_policy(OLD_TEXT, "old")


def archived(text: str, at_ms: int) -> ControlRecord:
    record = policy_output(parse_policy(text, "x"), "worker-1", at_ms).record
    assert isinstance(record, ControlRecord)
    return record


def test_a_version_is_found_in_what_workers_wrote(tmp_path: Path) -> None:
    archive = PolicyArchive([archived(OLD_TEXT, 1), archived(TEXT, 2)], tmp_path, tmp_path / "none.yaml")
    found = archive.find("default", OLD.full_version)
    assert found is not None and found.digest == OLD.digest
    newest = archive.newest()
    assert newest is not None and newest.digest == NOW.digest
    assert archive.find("default", "9+ffffffffffff") is None


def test_a_kept_file_counts_only_with_the_recorded_digest(tmp_path: Path) -> None:
    kept = tmp_path / "default" / f"{OLD.version}.yaml"
    kept.parent.mkdir()
    kept.write_text(OLD_TEXT)
    archive = PolicyArchive([], tmp_path, tmp_path / "none.yaml")
    found = archive.find("default", OLD.full_version)
    assert found is not None and found.digest == OLD.digest
    assert archive.find("default", NOW.full_version) is None
    kept.write_text("broken: [")
    assert archive.find("default", OLD.full_version) is None


def test_the_file_of_this_machine_counts_if_it_is_that_version(tmp_path: Path) -> None:
    current = tmp_path / "mine.yaml"
    current.write_text(TEXT)
    found = PolicyArchive([], tmp_path, current).find("default", NOW.full_version)
    assert found is not None


def test_a_start_refuses_a_policy_that_fails_its_own_tests(tmp_path: Path) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(TEXT.replace("expect: block", "expect: advise", 1))
    with pytest.raises(PolicyError, match=r"p\.yaml, line \d+: the policy's own test 'pornography' fails"):
        load_policy(file, tmp_path / "no-models")


def test_unreadable_files_are_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read: No such file"):
        read_policy(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"policy: \xff")
    with pytest.raises(PolicyError, match="not UTF-8 text at byte 8"):
        read_policy(tmp_path / "latin.yaml")
    (tmp_path / "large.yaml").write_text("#" * 300_000)
    with pytest.raises(PolicyError, match="larger than"):
        read_policy(tmp_path / "large.yaml")


def test_labels_come_from_the_shipped_manifests() -> None:
    labels = known_labels(ROOT / "models")
    assert "nsfw" in labels["nsfw"]
    assert known_labels(ROOT / "no-such-folder") == {}
