"""What contributors read is true: paths exist, example commits are in the history, hooks are those of `make check`."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from app.settings import ROOT
from tests.support.paths import named_modules, named_paths, prose

_PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "bench" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
)
# Files of others, and files that a run writes.
_NOT_OURS = {
    "efficientnet_lite_builder.py",
    "torch/serialization.py",
    # A logger, and a property of Kafka Connect.
    "app.api.access",
    "schemas.enable",
}


def _sources() -> list[Path]:
    return sorted(path for package in ("app", "agents", "schemas", "tests") for path in (ROOT / package).rglob("*.py"))


@pytest.fixture(scope="module")
def endings() -> frozenset[str]:
    """Every path below the root, and every ending of it: `rows.py`, `iceberg/rows.py`."""
    # Folders that start with a dot, and var, hold what tools and servers write.
    folders = [path for path in ROOT.iterdir() if path.is_dir() and path.name[0] != "." and path.name != "var"]
    files = [
        path for folder in (*folders, ROOT / ".ci") for path in folder.rglob("*") if "node_modules" not in path.parts
    ]
    parts = [path.relative_to(ROOT).parts for path in (*files, *ROOT.glob("*"))]
    return frozenset("/".join(path[start:]) for path in parts for start in range(len(path)))


def _missing(name: str, text: str, endings: frozenset[str]) -> Iterator[str]:
    """Yield each path and module that `text`, of the file `name`, names and that does not exist."""
    for line, path in named_paths(text):
        beside = (ROOT / name).parent / path
        if path not in _NOT_OURS and path.rstrip("/") not in endings and not beside.exists():
            yield f"{name}:{line}: {path}"
    for line, dotted in named_modules(text):
        if dotted not in _NOT_OURS and not _is_module_or_name(dotted):
            yield f"{name}:{line}: {dotted}"


def _is_module_or_name(dotted: str) -> bool:
    whole, parent = (ROOT / part.replace(".", "/") for part in (dotted, dotted.rpartition(".")[0]))
    if whole.is_dir() or whole.with_suffix(".py").exists():
        return True
    module = parent / "__init__.py" if parent.is_dir() else parent.with_suffix(".py")
    name = dotted.rpartition(".")[2]
    return module.exists() and re.search(rf"\b{name}\b", module.read_text(encoding="utf-8")) is not None


def test_paths_in_pages_exist(endings: frozenset[str]) -> None:
    texts = {page.relative_to(ROOT).as_posix(): page.read_text(encoding="utf-8") for page in _PAGES}
    assert [place for name, text in texts.items() for place in _missing(name, text, endings)] == []


def test_paths_in_docstrings_and_comments_exist(endings: frozenset[str]) -> None:
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in _sources()}
    # Most files name nothing that is missing, not even in their code; only the others are parsed.
    suspicious = {name: text for name, text in texts.items() if any(_missing(name, text, endings))}
    assert [place for name, text in suspicious.items() for place in _missing(name, prose(text), endings)] == []


@pytest.mark.parametrize(
    "text",
    [
        "see `app/services/lake.py`",
        "In app/nowhere/, or elsewhere.",
        "Start reading in `bootstrap_of_old.py`.",
        "the decision is app.domain.claims.nothing_of_this_name",
        "tests/nowhere/<name>/ holds one folder each",
    ],
)
def test_a_path_that_does_not_exist_is_refused(text: str, endings: frozenset[str]) -> None:
    source = f'def f() -> None:\n    """Do it.\n\n    {text}\n    """\n'
    assert prose(source).splitlines()[3].strip() == text
    for written in (text, prose(source), prose(f"X = 1  # {text}\n")):
        assert len(list(_missing("app/x.py", written, endings))) == 1
    assert prose(f'X = "{text}"\n').strip() == ""


def test_example_commits_are_in_the_history() -> None:
    text = " ".join((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split())
    examples = dict(re.findall(r'\b([0-9a-f]{7}) "([^"]+)"', text))
    assert len(examples) >= 10
    git = ["git", "-C", str(ROOT)]
    shallow = subprocess.run([*git, "rev-parse", "--is-shallow-repository"], capture_output=True, text=True)
    if shallow.stdout.strip() != "false":
        pytest.skip("needs the whole history")
    shown = subprocess.run(
        [*git, "show", "-s", "--format=%h %s", "--abbrev=7", *examples], capture_output=True, text=True
    )
    assert shown.stdout.splitlines() == [f"{commit} {title}" for commit, title in examples.items()]


def test_hooks_run_the_commands_of_make_check() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("$(PY)", ".venv/bin/python")
    recipe = re.findall(r"^\t(.+)$", makefile[makefile.index("\ncheck:") : makefile.index("\nformat:")], re.MULTILINE)
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert [hook["entry"] for hook in hooks] == recipe
