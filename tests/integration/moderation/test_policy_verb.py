"""The policy verbs, and a moderate worker that refuses a wrong policy before it touches anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.settings import ROOT
from app.stack.local import LocalStack

POLICY = (ROOT / "policies" / "default.yaml").read_text()


def sightline(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
    return subprocess.run(
        [sys.executable, "-m", "app", *words],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_the_shipped_policy_fits_the_shipped_models_and_its_own_tests() -> None:
    done = sightline("policy", "check", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["policy"], told["models_checked"], told["failures"]) == ("default", True, [])


def test_a_failing_case_is_exit_code_1_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "strict.yaml"
    file.write_text(POLICY.replace("expect: block", "expect: review", 1))
    done = sightline("policy", "check", str(file))
    assert done.returncode == 1
    assert f"{file}, line " in done.stderr and "expected review, got block" in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("threshold: 0.95", "threshold: 9.5", "threshold 9.5 is outside 0 to 1"),
        ("model: nsfw,", "model: nfsw,", "there is no model 'nfsw'; did you mean 'nsfw'?"),
        ("action: block", "acton: block", "unknown key 'acton' in a rule"),
    ],
)
def test_a_wrong_file_is_exit_code_2_with_line_and_reason(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    file = tmp_path / "wrong.yaml"
    file.write_text(POLICY.replace(old, new, 1))
    done = sightline("policy", "check", str(file))
    assert done.returncode == 2
    assert complaint in done.stderr and ", line " in done.stderr
    assert "Traceback" not in done.stderr


def test_rules_are_shown_in_words() -> None:
    done = sightline("policy", "show")
    assert done.returncode == 0
    assert "nsfw-block" in done.stdout and "nsfw nsfw >= 0.95" in done.stdout


@pytest.mark.services
def test_a_moderate_worker_refuses_a_wrong_policy_at_its_start(stack: LocalStack, topics: str, tmp_path: Path) -> None:
    """Guarantee: a policy that cannot be read, or fails its own tests, never decides anything."""
    file = tmp_path / "wrong.yaml"
    file.write_text(POLICY.replace('op: ">="', 'op: "=~"', 1))
    done = sightline(
        "worker",
        "moderate",
        **stack.environment,
        SIGHTLINE_KAFKA_PREFIX=topics,
        SIGHTLINE_POLICY_PATH=str(file),
        SIGHTLINE_WORKER_DATA_DIR=str(tmp_path / "worker"),
    )
    assert done.returncode != 0
    assert f"{file}, line " in done.stderr + done.stdout
    assert "unknown op '=~'" in done.stderr + done.stdout
