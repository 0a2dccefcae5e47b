"""What the local stack runs as agents, and the key of its user."""

from __future__ import annotations

from pathlib import Path

from app.exit_codes import ExitCode
from app.stack.agents import agent_command, agent_words, api_words, why_ended
from app.stack.options import StackOptions
from app.stack.user_key import ensure_key, key_file, read_key


def test_the_bridge_runs_where_there_is_a_queue() -> None:
    options = StackOptions(agents=("identify", "index"))
    assert agent_words(options, with_queue=False) == {
        "identify": ("worker", "identify", "--restart"),
        "index": ("worker", "index", "--restart"),
    }
    assert agent_words(options, with_queue=True)["bridge"] == ("bridge", "sqs", "--restart")


def test_the_api_may_go_without_models() -> None:
    assert api_words(StackOptions()) == ("api", "--restart", "--score")
    assert api_words(StackOptions(api_score=False)) == ("api", "--restart", "--no-score")


def test_an_agent_gets_the_servers_of_its_stack_and_a_port_of_its_own(tmp_path: Path) -> None:
    options = StackOptions(var_dir=tmp_path)
    how = agent_command(options, "score", ("worker", "score"), {"SIGHTLINE_KAFKA_BOOTSTRAP": "127.0.0.1:9"}, 20_001)
    assert how.command[1:] == ("-m", "app", "worker", "score")
    assert how.environment["SIGHTLINE_KAFKA_BOOTSTRAP"] == "127.0.0.1:9"
    assert how.environment["SIGHTLINE_WORKER_HTTP_PORT"] == "20001"
    assert how.environment["SIGHTLINE_STACK_VAR_DIR"] == str(tmp_path)
    assert how.log_file == tmp_path / "log" / "score.log"


def test_an_end_for_good_says_what_to_do() -> None:
    ceiling = why_ended("score", ExitCode.CEILING, Path("score.log"))
    assert "dead-letters ls" in ceiling and "score.log" in ceiling and "worker score --restart" in ceiling
    assert why_ended("index", 2, Path("index.log")) == "index ended for good (exit code 2); see index.log"


async def test_a_key_that_is_there_is_kept(tmp_path: Path) -> None:
    assert read_key(tmp_path) is None
    path = key_file(tmp_path)
    path.parent.mkdir()
    path.write_text("slk_one_two\n")
    said: list[str] = []
    await ensure_key(tmp_path, {}, said.append)
    assert (read_key(tmp_path), said) == ("slk_one_two", [])
