"""`make demo-lake` as a user runs it: rows counted against outcomes, answers by SQL, and what it says to try."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator

import pytest

from tests.system.test_demo import Sightline

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
IMAGES = 40


@pytest.fixture(scope="module")
def sightline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sightline]:
    launcher = Sightline(tmp_path_factory.mktemp("lake"))
    yield launcher
    launcher.run("stack", "down")


@pytest.fixture(scope="module")
def demo(sightline: Sightline) -> subprocess.CompletedProcess[str]:
    done = sightline.run("demo", "--lake", "--images", str(IMAGES), timeout_seconds=540)
    if done.returncode == 2 and "download" in done.stderr and os.environ.get("REQUIRE_SERVICES") != "1":
        pytest.skip(done.stderr)
    return done


def test_every_outcome_is_a_row_and_two_questions_are_answered(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stdout[-6000:] + demo.stderr[-2000:]
    lines = demo.stdout.splitlines()
    ledger = lines.index(f"uploads={IMAGES} outcomes={IMAGES} lost=0 duplicated=0")
    counted = lines.index(f"outcomes={IMAGES} rows={IMAGES} missing=0 extra=0")
    assert ledger < counted
    answers = "\n".join(lines[counted:])
    scored = re.search(r"(\d+) scored", demo.stdout)
    assert scored
    by_category = re.findall(r"^ +([a-z-]+) +(\d+) +(\d+) +(\d+) +[\d.]+$", answers, re.MULTILINE)
    assert sum(int(uploads) for _, uploads, *_ in by_category) == int(scored[1])
    assert re.search(r"^ +rule +flagged +mean_score$", answers, re.MULTILINE)


def test_what_the_demo_says_to_try_works(sightline: Sightline, demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0
    told = [line.strip() for line in demo.stdout.splitlines() if line.strip().startswith("./sightline lake ")]
    assert len(told) == 2
    for line in told:
        done = sightline.run(*shlex.split(line)[1:])
        assert done.returncode == 0, done.stdout + done.stderr


def test_all_tables_agree_with_their_topics_and_every_question_of_the_page_runs(
    sightline: Sightline, demo: subprocess.CompletedProcess[str]
) -> None:
    assert demo.returncode == 0
    verified = sightline.run("lake", "verify", "--json")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    tables = {table["table"]: table for table in json.loads(verified.stdout)["tables"]}
    assert tables["predictions"]["rows"] == IMAGES
    flagged = re.search(r"^ +(\d+) flagged", demo.stdout, re.MULTILINE)
    assert flagged and tables["flagged"]["rows"] == tables["decisions"]["rows"] == int(flagged[1]) > 0
    assert tables["embeddings"]["rows"] > 0
    answers = sightline.run("lake", "answers")
    assert answers.returncode == 0, answers.stderr
    assert re.findall(r"^(\d+)\. ", answers.stdout, re.MULTILINE) == [str(number) for number in range(1, 11)]
