"""The declarations of agents: whole, consistent with the topics, and not repeated by hand elsewhere."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from agents import AGENTS, ARCHIVE, NAMES, PIPELINE, RETRY, SCORE, agent_named, readers_of, writers_of
from agents.declaration import Agent
from app.compose.processors import production_parts
from app.errors import ConfigurationError
from app.settings import ROOT, ArchiveSettings, EngineSettings, LaneSettings, Settings
from app.topics import BACKFILL, CONTROL, DEAD_LETTERS, PREDICTIONS, REMOVED, TABLES, TASKS, TOPICS, UPLOADS

_NAME = rf"`?(?:{'|'.join(agent.name for agent in AGENTS)}|bridge)`?"
_LIST = re.compile(rf"{_NAME}(?:(?:, | and | or ){_NAME}){{3,}}")
_GROUP = re.compile(rf"sightline\.(?:{'|'.join(agent.name for agent in AGENTS)})\b")


@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent.name)
def test_an_agent_has_a_processor_and_known_topics(agent: Agent) -> None:
    topics = {spec.name for spec in TOPICS}
    assert production_parts(agent.name).processor is not None
    assert agent_named(agent.name) is agent
    assert set(agent.topics) <= topics and set(agent.writes) <= topics
    assert all(source.yields_to is None or source.yields_to in agent.topics for source in agent.sources)
    # Faust names a changelog after the id of its app.
    assert all(table.changelog == f"{agent.group}-{table.name}-changelog" for table in agent.tables)


@pytest.mark.parametrize("name", PIPELINE)
def test_a_processor_writes_dead_letters_in_the_name_of_its_agent(name: str) -> None:
    processor = importlib.import_module(f"app.pipeline.{name}")
    assert name == processor.AGENT


def test_a_name_of_no_agent_is_refused_with_the_agents() -> None:
    with pytest.raises(ConfigurationError, match=f"'foo'; choose one of {NAMES}"):
        production_parts("foo")


def test_every_topic_has_writers_and_readers() -> None:
    lonely = [
        spec.name
        for spec in TOPICS
        if not (writers_of(spec.name) or spec.other_writers) or not (readers_of(spec.name) or spec.other_readers)
    ]
    assert lonely == []
    assert writers_of(DEAD_LETTERS) == PIPELINE
    assert readers_of(TABLES[0].changelog) == writers_of(TABLES[0].changelog) == ("score",)


def test_credits_and_bounds_of_a_release_follow_the_settings() -> None:
    settings = Settings(
        engine=EngineSettings(max_in_flight=10, backfill_in_flight=3),
        archive=ArchiveSettings(topics=(PREDICTIONS, REMOVED), in_flight=7_000, file_records=5_000),
        lane=LaneSettings(release_results=100),
    )
    assert {source.topic: source.credits(settings) for source in SCORE.sources} == {TASKS: 10, BACKFILL: 3}
    assert {source.credits(settings) for source in RETRY.sources} == {80}
    assert {source.topic: source.credits(settings) for source in ARCHIVE.sources_by(settings)} == {
        PREDICTIONS: 7_000,
        REMOVED: 7_000,
    }
    assert (SCORE.lane(settings).release_results, ARCHIVE.lane(settings).release_results) == (100, 5_000)


@pytest.mark.parametrize("topics", [(), (UPLOADS,), (PREDICTIONS, CONTROL)])
def test_the_archive_reads_no_other_topics(topics: tuple[str, ...]) -> None:
    with pytest.raises(ConfigurationError, match=r"SIGHTLINE_ARCHIVE_TOPICS=.* must name at least one of image"):
        ARCHIVE.sources_by(Settings(archive=ArchiveSettings(topics=topics)))


def _texts() -> Iterator[tuple[Path, str]]:
    pages = [
        ROOT / "README.md",
        ROOT / "Makefile",
        ROOT / "docker-compose.yml",
        *(ROOT / "deploy").rglob("*Dockerfile"),
    ]
    pages += [page for page in (ROOT / "docs").rglob("*.md") if page.name != "topics.md"]
    for path in (*pages, *(ROOT / "app").rglob("*.py")):
        yield path, path.read_text(encoding="utf-8")


def _short_lists(text: str) -> list[str]:
    """Return the lists of four or more agents in `text` that leave out an agent of the pipeline."""
    return [found[0] for found in _LIST.finditer(text) if not set(PIPELINE) <= set(re.findall(r"\w+", found[0]))]


def test_no_text_lists_the_agents_and_forgets_one() -> None:
    assert [(path, lists) for path, text in _texts() if (lists := _short_lists(text))] == []
    assert _short_lists("one of `identify`, `score`, `retry`, `moderate` and `index`") != []
    assert _short_lists(f"one of {', '.join(PIPELINE)} or archive; score and retry") == []


def test_group_names_are_made_in_one_place() -> None:
    spelled = [path for path, text in _texts() if path.suffix == ".py" and _GROUP.search(text)]
    assert spelled == []
    assert _GROUP.search('"sightline.moderate"')
