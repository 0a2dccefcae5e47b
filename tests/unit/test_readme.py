"""The pages say what exists: verbs, paths, links, make targets, and the picture of the data flow."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest

from app.__main__ import build
from app.settings import ROOT
from app.topics import TOPICS

VERBS = (ROOT / "docs" / "verbs.md").read_text(encoding="utf-8")
ARCHITECTURE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PICTURE = (ROOT / "docs" / "architecture.svg").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "bench" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]


def _verbs() -> dict[str, set[str]]:
    """Return the verbs of the command line, each with its subcommands."""
    found: dict[str, set[str]] = {}
    for name, verb in build().commands.items():
        found[name] = {sub for sub, one in getattr(verb, "commands", {}).items() if not one.hidden}
    return found


def test_the_table_of_verbs_is_the_command_line() -> None:
    table = VERBS[VERBS.index("| verb | does |") :]
    told = {line.split("`")[1].split()[0] for line in table.splitlines() if line.startswith("| `")}
    assert told == set(_verbs())


def test_commands_in_the_pages_exist() -> None:
    verbs = _verbs()
    wrong = []
    for page in PAGES:
        for found in re.finditer(r"\./sightline ([a-z][a-z-]*)(?: ([a-z][a-z-]*))?", page.read_text(encoding="utf-8")):
            verb, sub = found.groups()
            if verb not in verbs or (sub and verbs[verb] and sub not in verbs[verb]):
                wrong.append(f"{page.name}: {found[0]}")
    assert wrong == []


def test_the_map_is_true() -> None:
    table = ARCHITECTURE[ARCHITECTURE.index("| path | holds |") :]
    paths = [
        path
        for line in table.splitlines()
        if line.startswith("| `")
        for path in re.findall(r"`([^`*]+)`", line.split("|")[1])
    ]
    assert len(paths) > 15
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    inside = [link for link in links if not link.startswith("http")]
    assert [link for link in inside if not (page.parent / link).exists()] == []


def test_make_targets_that_the_pages_name_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {name for page in PAGES for name in re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8"))}
    assert named <= targets


def test_the_picture_has_a_number_for_each_step_and_names_topics_that_exist() -> None:
    numbers = re.findall(r'class="number"[^>]*>(\d+)<', PICTURE)
    assert numbers == re.findall(r"^(\d+)\. ", ARCHITECTURE, re.MULTILINE)
    topics = re.findall(r">([a-z3_]+\.[a-z.*]*v1|s3\.uploads)<", PICTURE)
    assert len(topics) > 8
    names = {topic.name for topic in TOPICS}
    assert [topic for topic in topics if not any(fnmatch(name, topic) for name in names)] == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "index.md").read_text(encoding="utf-8")
    pages = {page.name for page in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert {name for name in pages if f"]({name})" not in index} == set()
