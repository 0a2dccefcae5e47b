"""What holds for every verb: settings are checked first, what is away is said in one sentence, --json prints JSON."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agents import NAMES
from app.settings import ROOT
from app.stack.local import LocalStack
from tests.support.stack import TEST_PARTITIONS

SILENT = "127.0.0.1:1"


def sightline(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("SIGHTLINE_")}
    # Without a stack of the developer's own beneath it.
    nowhere = {"SIGHTLINE_STACK_VAR_DIR": "/nonexistent"}
    return subprocess.run(
        [sys.executable, "-m", "app", *words],
        cwd=ROOT,
        env={**clean, **nowhere, **{f"SIGHTLINE_{name}": value for name, value in environment.items()}},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    "words", [("models", "ls"), ("models", "verify"), ("train", "category", "--data", "."), ("docs", "--check")]
)
def test_an_unknown_variable_is_refused_by_verbs_that_need_no_server(words: tuple[str, ...]) -> None:
    done = sightline(*words, KAFKA_BOOTSTRAPS="x")
    assert done.returncode == 2
    assert done.stderr == (
        "sightline: unknown setting SIGHTLINE_KAFKA_BOOTSTRAPS; did you mean SIGHTLINE_KAFKA_BOOTSTRAP?\n"
    )


def test_help_is_given_whatever_the_settings_are() -> None:
    done = sightline("worker", "--help", KAFKA_PARTITIONS="0")
    assert (done.returncode, "identify" in done.stdout) == (0, True)


def test_the_models_folder_of_the_settings_is_the_one_that_is_used(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "models" / "nsfw", tmp_path / "nsfw")
    (tmp_path / "nsfw" / "7").mkdir()
    listed = sightline("models", "ls", "--json", INFERENCE_MODELS_DIR=str(tmp_path))
    assert [row["model"] for row in json.loads(listed.stdout)] == ["nsfw@1"]
    assert f"{tmp_path / 'nsfw' / '7'} is no model and is left out" in listed.stderr
    verified = sightline("models", "verify", "--json", INFERENCE_MODELS_DIR=str(tmp_path), INFERENCE_RUNTIME="onnx")
    assert json.loads(verified.stdout) == {"ok": True, "models": ["nsfw@1"], "device": "CPU"}
    assert f"{tmp_path / 'nsfw' / '7'} is not a model and is ignored" in verified.stderr
    refused = sightline("models", "verify", INFERENCE_MODELS_DIR=str(tmp_path), INFERENCE_DISABLED="nfsw")
    assert (refused.returncode, "SIGHTLINE_INFERENCE_DISABLED='nfsw' must be" in refused.stderr) == (2, True)
    trained = sightline("train", "category", "--data", str(tmp_path), INFERENCE_MODELS_DIR=str(tmp_path / "none"))
    assert (trained.returncode, f"{tmp_path / 'none'}: the models folder" in trained.stderr) == (2, True)


def test_a_worker_of_no_agent_is_told_the_agents() -> None:
    done = sightline("worker", "foo")
    assert done.returncode == 2
    assert done.stderr == f"sightline: no agent is called 'foo'; choose one of {NAMES}\n"


@pytest.mark.parametrize(
    "words",
    [("worker", "identify"), ("audit",), ("rescore", "status"), ("stack", "init"), ("dead-letters", "ls")],
    ids=lambda words: words[0],
)
def test_a_broker_that_is_away_is_one_sentence_that_says_what_to_do(words: tuple[str, ...]) -> None:
    done = sightline(*words, KAFKA_BOOTSTRAP=SILENT)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"sightline: Kafka at {SILENT} does not answer (")
    assert "`./sightline stack up`" in line and "SIGHTLINE_KAFKA_BOOTSTRAP" in line


def test_an_index_that_is_away_is_one_sentence_that_says_what_to_do_and_no_password() -> None:
    done = sightline("index", "get", "s3://images/a.jpg", REDIS_URL=f"redis://:hunter2@{SILENT}/0")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"sightline: Redis at {SILENT} does not answer (")
    assert "`./sightline stack up`" in line and "SIGHTLINE_REDIS_URL" in line and "hunter2" not in line


def test_a_registry_that_is_away_is_one_sentence_that_says_what_to_do(stack: LocalStack, topics: str) -> None:
    installation = {
        "KAFKA_BOOTSTRAP": stack.kafka,
        "KAFKA_PREFIX": topics,
        "KAFKA_PARTITIONS": str(TEST_PARTITIONS),
        "REGISTRY_URL": f"http://{SILENT}",
    }
    done = sightline("worker", "identify", **installation)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"sightline: the schema registry at http://{SILENT} does not answer (")
    assert "`./sightline stack up`" in line and "SIGHTLINE_REGISTRY_URL" in line


def test_init_prints_one_object(stack: LocalStack, topics: str) -> None:
    installation = {"KAFKA_BOOTSTRAP": stack.kafka, "KAFKA_PREFIX": topics, "KAFKA_PARTITIONS": str(TEST_PARTITIONS)}
    done = sightline("stack", "init", "--json", **installation, REGISTRY_URL=stack.registry_url)
    told = json.loads(done.stdout)
    assert (told["kafka"], told["topics_created"]) == (stack.kafka, [])
    assert (told["registry"], told["schemas"] > 5, told["topics"] > 10) == (stack.registry_url, True, True)


def test_a_changelog_that_keeps_less_than_its_table_is_refused(stack: LocalStack, topics: str) -> None:
    installation = {"KAFKA_BOOTSTRAP": stack.kafka, "KAFKA_PREFIX": topics, "KAFKA_PARTITIONS": str(TEST_PARTITIONS)}
    done = sightline("stack", "init", "--check", **installation, TABLES_CONTENTS_DAYS="120")
    assert done.returncode == 2
    assert done.stderr.startswith(
        f"sightline: topic {topics}sightline.score-contents-changelog keeps 90 days, less than "
        "SIGHTLINE_TABLES_CONTENTS_DAYS=120; set that to 90 at most, or run `kafka-configs"
    )
    assert f"--add-config retention.ms={120 * 86_400_000}`" in done.stderr
    assert sightline("stack", "init", "--check", **installation, TABLES_CONTENTS_DAYS="30").returncode == 0


def test_the_policy_is_shown_as_one_object() -> None:
    told = json.loads(sightline("policy", "show", "--json").stdout)
    assert told["policy"] == "default"
    assert {"rule", "action", "severity", "when"} == set(told["rules"][0])
