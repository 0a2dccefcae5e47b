"""The demo as a stranger runs it: the launcher, real servers, exit codes and printed lines. Imports nothing of ours."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 60


class Sightline:
    """The launcher with data of its own below a temporary folder."""

    def __init__(self, var_dir: Path) -> None:
        self.var_dir = var_dir
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SIGHTLINE_", "DEMO_"))}
        self.environment = {**kept, "SIGHTLINE_STACK_VAR_DIR": str(var_dir)}

    def run(self, *arguments: str, timeout_seconds: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run one verb to its end; a tail of the log files goes into the failure of a test."""
        return subprocess.run(
            [str(ROOT / "sightline"), *arguments],
            cwd=self.var_dir,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
        )

    def processes(self) -> list[str]:
        """Return the command lines of running processes that name our folder or work in it."""
        found = []
        for process in psutil.process_iter(["pid", "cmdline", "environ"]):
            environment = process.info["environ"] or {}
            words = " ".join(process.info["cmdline"] or ())
            named = str(self.var_dir) in words or environment.get("SIGHTLINE_STACK_VAR_DIR") == str(self.var_dir)
            if named and process.status() != psutil.STATUS_ZOMBIE:
                found.append(words)
        return found


@pytest.fixture(scope="module")
def sightline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sightline]:
    launcher = Sightline(tmp_path_factory.mktemp("demo"))
    yield launcher
    launcher.run("stack", "down")


@pytest.fixture(scope="module")
def demo(sightline: Sightline) -> subprocess.CompletedProcess[str]:
    # With the lake: the plain one follows on the same servers.
    done = sightline.run("demo", "--lake", "--images", str(IMAGES), timeout_seconds=540)
    if done.returncode == 2 and "download" in done.stderr and os.environ.get("REQUIRE_SERVICES") != "1":
        pytest.skip(done.stderr)
    return done


@pytest.mark.timeout(600)
def test_demo_ends_by_itself_and_its_ledger_adds_up(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stdout[-6000:] + demo.stderr[-2000:]
    ledgers = [line for line in demo.stdout.splitlines() if line.startswith("uploads=")]
    assert ledgers == [f"uploads={IMAGES} outcomes={IMAGES} lost=0 duplicated=0"]


@pytest.mark.timeout(600)
def test_demo_shows_hits_rejections_and_flags(demo: subprocess.CompletedProcess[str]) -> None:
    found = re.search(r"(\d+) scored, (\d+) of them from known scores .*; (\d+) rejected; (\d+) gone", demo.stdout)
    assert found, demo.stdout[-6000:]
    scored, hits, rejected, gone = map(int, found.groups())
    assert scored + rejected + gone == IMAGES
    assert gone == 0
    # 30 % are re-uploads of bytes that were uploaded before, 6 % are bad files.
    assert 1 <= hits <= IMAGES * 30 // 100
    assert 1 <= rejected <= IMAGES * 10 // 100
    flagged = re.search(r"^ +(\d+) flagged", demo.stdout, re.MULTILINE)
    assert flagged and int(flagged[1]) >= 1, demo.stdout[-6000:]
    # No drawing of a terminal where there is none.
    assert "\x1b" not in demo.stdout


@pytest.mark.timeout(600)
def test_what_the_demo_says_to_try_works(sightline: Sightline, demo: subprocess.CompletedProcess[str]) -> None:
    """The printed `explain` line, word for word, after the demo has ended."""
    lines = [line.strip() for line in demo.stdout.splitlines() if line.strip().startswith("./sightline explain ")]
    assert len(lines) == 1, demo.stdout[-6000:]
    words = shlex.split(lines[0])
    told = sightline.run(*words[1:])
    assert told.returncode == 0, told.stdout + told.stderr
    key = words[-1].removeprefix("s3://images/")
    assert key in told.stdout
    assert "sha256" in told.stdout or "digest" in told.stdout


@pytest.mark.timeout(600)
def test_every_outcome_is_a_row_and_two_questions_are_answered(demo: subprocess.CompletedProcess[str]) -> None:
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


@pytest.mark.timeout(600)
def test_what_the_demo_says_of_the_lake_works(sightline: Sightline, demo: subprocess.CompletedProcess[str]) -> None:
    told = [line.strip() for line in demo.stdout.splitlines() if line.strip().startswith("./sightline lake ")]
    assert len(told) == 2
    for line in told:
        done = sightline.run(*shlex.split(line)[1:])
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.timeout(600)
def test_all_tables_agree_with_their_topics_and_every_question_of_the_page_runs(
    sightline: Sightline, demo: subprocess.CompletedProcess[str]
) -> None:
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


@pytest.mark.timeout(600)
def test_json_is_one_object_with_the_ledger_and_the_story_goes_elsewhere(
    sightline: Sightline, demo: subprocess.CompletedProcess[str]
) -> None:
    assert demo.returncode == 0
    done = sightline.run("demo", "--images", "20", "--json", timeout_seconds=540)
    assert done.returncode == 0, done.stderr[-6000:]
    told = json.loads(done.stdout)
    assert (told["ok"], told["failure"]) == (True, None)
    assert [told["ledger"][name] for name in ("uploads", "outcomes", "lost", "duplicated")] == [20, 20, 0, 0]
    assert told["scored"] + told["rejected"] + told["gone"] == 20
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/console#key=slk_[\w-]+", told["console"])
    assert "its whole story" in done.stderr


@pytest.mark.timeout(600)
def test_the_console_comes_first_of_what_to_try_and_answers(
    sightline: Sightline, demo: subprocess.CompletedProcess[str]
) -> None:
    lines = demo.stdout.splitlines()
    address = lines[lines.index("Try next") + 1].strip()
    found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/console#key=(slk_[\w-]+)", address)
    assert found, address
    described = json.loads(sightline.run("stack", "status", "--json").stdout)
    assert found[1] == described["api"]
    with urllib.request.urlopen(f"{found[1]}/healthz", timeout=10) as answer:
        assert json.load(answer) == {"healthy": True}
    with urllib.request.urlopen(f"{found[1]}/console", timeout=10) as answer:
        assert answer.headers.get_content_type() == "text/html"
    key_file = Path(described["api_key_file"])
    assert key_file.read_text().strip() == found[2]
    assert key_file.stat().st_mode & 0o077 == 0
    assert str(key_file) in sightline.run("stack", "status").stdout


@pytest.mark.timeout(600)
def test_the_key_asks_for_the_image_that_is_named_and_decides_on_it(
    sightline: Sightline, demo: subprocess.CompletedProcess[str]
) -> None:
    (curl,) = [line.strip() for line in demo.stdout.splitlines() if line.strip().startswith("curl ")]
    address = shlex.split(curl)[-1]
    base, _, key = address.partition("/v1/images/images/")
    described = json.loads(sightline.run("stack", "status", "--json").stdout)
    authorization = {"Authorization": f"Bearer {Path(described['api_key_file']).read_text().strip()}"}

    def image() -> dict[str, Any]:
        with urllib.request.urlopen(urllib.request.Request(address, headers=authorization), timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    assert image()["outcome"] == "scored"
    decision = {"decision_id": str(uuid.uuid4()), "bucket": "images", "key": key, "decision": "reject", "reason": "no"}
    headers = {**authorization, "Content-Type": "application/json"}
    asked = urllib.request.Request(f"{base}/v1/decisions", json.dumps(decision).encode(), headers, method="POST")
    with urllib.request.urlopen(asked, timeout=10) as answer:
        told = json.load(answer)
    assert (told["decision"], told["reason"]) == ("reject", "no")
    # The agent `index` reads it from its topic; each look is a process, which takes its time.
    for _ in range(30):
        shown = sightline.run("index", "get", f"s3://images/{key}", "--json")
        if told["decision_id"] in shown.stdout:
            break
    assert told["decision_id"] in shown.stdout, shown.stdout + shown.stderr
    assert image()["decision"]["decision_id"] == told["decision_id"]


@pytest.mark.timeout(600)
def test_a_new_upload_is_scored_after_the_demo(sightline: Sightline, demo: subprocess.CompletedProcess[str]) -> None:
    """Any S3 client will do: MiniStack asks for no signature."""
    assert demo.returncode == 0
    described = json.loads(sightline.run("stack", "status", "--json").stdout)
    buffer = io.BytesIO()
    Image.effect_mandelbrot((640, 480), (-2.0, -1.2, 0.8, 1.2), 80).save(buffer, "JPEG")
    address = f"{described['environment']['SIGHTLINE_S3_ENDPOINT']}/images/by-hand/fractal.jpg"
    put = urllib.request.Request(address, data=buffer.getvalue(), method="PUT")
    with urllib.request.urlopen(put, timeout=30) as answer:
        assert answer.status == 200
    for _ in range(30):
        asked = sightline.run("index", "get", "s3://images/by-hand/fractal.jpg")
        if asked.returncode == 0:
            break
    assert asked.returncode == 0, asked.stdout + asked.stderr
    assert asked.stdout.startswith("s3://images/by-hand/fractal.jpg: scored, sha256 ")


@pytest.mark.timeout(600)
def test_the_way_from_an_upload_to_a_decision_works_as_the_page_tells_it(
    sightline: Sightline, demo: subprocess.CompletedProcess[str], tmp_path: Path
) -> None:
    """The block of docs/quick-start.md, word for word but for where the picture lies."""
    assert demo.returncode == 0
    page = (ROOT / "docs" / "quick-start.md").read_text(encoding="utf-8")
    section = page[page.index("## From an upload to a decision") :]
    block = section.split("```bash\n", 1)[1].split("```", 1)[0]
    photo = tmp_path / "photo.jpg"
    Image.effect_mandelbrot((640, 480), (-1.5, -1.0, 0.5, 1.0), 60).save(photo, "JPEG")
    done = subprocess.run(
        ["bash", "-c", block.replace("@photo.jpg", f"@{photo}")],
        cwd=ROOT,
        env=sightline.environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(told) == 3, done.stdout + done.stderr
    image, decision, record = told
    assert image["outcome"] == "scored" and set(image["scores"]) >= {"nsfw", "category", "quality", "embedded_text"}
    assert decision["decision"] == "approve" and decision["key"] == "mine/photo.jpg"
    assert record["decision_id"] == decision["decision_id"] and record["upload_id"] == image["upload_id"]


@pytest.mark.timeout(600)
def test_the_agents_go_on_after_the_demo_and_all_ends_with_stack_down(
    sightline: Sightline, demo: subprocess.CompletedProcess[str]
) -> None:
    assert demo.returncode == 0
    running = " | ".join(sightline.processes())
    for verb in ("identify", "score", "retry", "moderate", "label", "index"):
        assert f" worker {verb} --restart" in running
    assert " bridge sqs --restart" in running
    assert " api --restart" in running
    assert sightline.run("stack", "status").returncode == 0
    assert sightline.run("stack", "down", timeout_seconds=90).returncode == 0
    assert sightline.processes() == []


@pytest.mark.timeout(600)
def test_a_stack_without_agents_is_refused_in_one_sentence(
    sightline: Sightline, demo: subprocess.CompletedProcess[str]
) -> None:
    """Last: after the stack of the demo has ended."""
    assert demo.returncode == 0
    assert sightline.run("stack", "up", "--detach", timeout_seconds=240).returncode == 0
    refused = sightline.run("demo", "--images", "5")
    assert refused.returncode == 2
    assert refused.stderr.strip() == (
        "sightline: the stack that runs has no agents (`stack up --agents` has); end it with `./sightline stack down`"
    )
    assert sightline.run("stack", "down", timeout_seconds=90).returncode == 0
