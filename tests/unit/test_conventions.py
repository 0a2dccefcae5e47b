"""What docs and reviews ask of every file, where a machine can ask it."""

from __future__ import annotations

import ast
import importlib.util
import json
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app import errors
from app.errors import ConfigurationError
from app.settings import ROOT, load_settings

_PACKAGES = ("app", "agents", "schemas")
# Words that say nothing of what a file holds, when they are what its name comes down to.
_EMPTY_WORDS = {
    "util",
    "utils",
    "helper",
    "helpers",
    "manager",
    "managers",
    "handler",
    "handlers",
    "data",
    "item",
    "items",
}

# Runs in a process of its own: audit hooks cannot be removed. It reports what importing every module did besides
# reading code: sockets, processes, files written, environment changed, logging set up.
_WATCHED_IMPORT = r"""
import importlib, json, os, pkgutil, sys

root = sys.argv[1]
found, current = [], ["?"]

WATCHED = {"socket.__new__", "socket.connect", "socket.bind", "subprocess.Popen", "os.system", "os.fork", "open",
           "os.mkdir", "os.remove", "os.rename", "os.putenv"}

def watch(event, arguments):
    if event not in WATCHED:
        return
    caller = sys._getframe(1)
    depth = 0
    while caller is not None and depth < 60:
        name = caller.f_code.co_filename
        if name.startswith(root + "/") and "/.venv/" not in name:
            break
        caller, depth = caller.f_back, depth + 1
    else:
        return
    if caller is None:
        return
    # Only what our own module body does: a library that a module imports is not ours.
    frame, library = sys._getframe(1), False
    while frame is not caller:
        library = library or "/site-packages/" in frame.f_code.co_filename
        frame = frame.f_back
    if library:
        return
    if event != "open":
        found.append([current[0], f"{event} {arguments[:1]}"])
    elif isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        found.append([current[0], f"writes {arguments[0]}"])

class Environment(dict):
    def _note(self, name):
        caller = sys._getframe(2).f_code.co_filename
        if caller.startswith(root + "/") and "/.venv/" not in caller:
            found.append([current[0], f"reads the environment variable {name}"])

    def __getitem__(self, name):
        self._note(name)
        return super().__getitem__(name)

    def get(self, name, default=None):
        self._note(name)
        return super().get(name, default)

import logging
handlers = list(logging.getLogger().handlers)
sys.dont_write_bytecode = True
sys.addaudithook(watch)
os.environ = Environment(os.environ)
places, names = {}, []
for package in sys.argv[2:]:
    module = importlib.import_module(package)
    places[package] = list(module.__path__)
    names += [package, *(info.name for info in pkgutil.walk_packages(module.__path__, package + "."))]
for name in names:
    # Its body is the command line itself; guarded by __name__.
    current[0] = name
    importlib.import_module(name)
if logging.getLogger().handlers != handlers:
    found.append(["?", "sets up logging"])
os.environ = dict(os.environ)
print(json.dumps({"found": found, "places": places, "modules": names}))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED_IMPORT, str(ROOT), *_PACKAGES],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    report: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return report


def test_importing_a_module_has_no_effect(imported: dict[str, object]) -> None:
    assert imported["found"] == []


def test_every_module_was_imported(imported: dict[str, object]) -> None:
    modules = imported["modules"]
    assert isinstance(modules, list)
    expected = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in _sources(_PACKAGES)
    }
    assert expected <= set(modules)


def test_packages_are_the_ones_of_this_folder(imported: dict[str, object]) -> None:
    assert imported["places"] == {package: [str(ROOT / package)] for package in _PACKAGES}


def test_the_watch_sees_what_it_should(tmp_path: Path) -> None:
    """The import test can fail: a module that does all of it is reported for each."""
    package = tmp_path / "naughty"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import logging, os, socket\n"
        "os.environ.get('HOME')\n"
        "socket.socket().close()\n"
        f"open({str(tmp_path / 'written')!r}, 'w').close()\n"
        "logging.basicConfig()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED_IMPORT, str(tmp_path), "naughty"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    kinds = " ".join(what for _, what in json.loads(done.stdout)["found"])
    for expected in ("reads the environment variable HOME", "socket.__new__", "writes ", "sets up logging"):
        assert expected in kinds


def _sources(folders: tuple[str, ...]) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def test_file_names_say_something() -> None:
    named = [
        path.relative_to(ROOT).as_posix()
        for path in _sources((*_PACKAGES, "tests"))
        if path.stem.lower().split("_")[-1] in _EMPTY_WORDS
    ]
    assert named == []


def test_every_error_tells_the_operator_what_to_do() -> None:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(classes) > 10
    assert [kind.__name__ for kind in classes if "\n    Operator: " not in (kind.__doc__ or "")] == []


def test_every_error_is_of_one_of_four_kinds() -> None:
    kinds = (errors.Retryable, errors.Poison, errors.Refused, errors.Fatal)
    for kind in vars(errors).values():
        if isinstance(kind, type) and issubclass(kind, Exception) and kind is not errors.SightlineError:
            assert sum(issubclass(kind, each) for each in kinds) == 1, kind.__name__
    # No class elsewhere derives from the root directly.
    direct = re.compile(r"^class \w+\(SightlineError\)", re.M)
    sources = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in _sources(_PACKAGES)}
    assert [name for name, text in sources.items() if direct.search(text)] == ["app/errors.py"]


def test_no_module_raises_or_catches_bare_exceptions() -> None:
    """What ruff's BLE001 lets through: `except Exception` that raises again, and BaseException without a raise."""
    offences = []
    for path in _sources(_PACKAGES):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case (
                    ast.Raise(exc=ast.Call(func=ast.Name(id="Exception")))
                    | ast.ExceptHandler(type=ast.Name(id="Exception"))
                ):
                    offences.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert offences == []


def test_an_unknown_variable_with_our_prefix_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"SIGHTLINE_S3_ENDPOINTS; did you mean SIGHTLINE_S3_ENDPOINT\?"):
        load_settings({"SIGHTLINE_S3_ENDPOINTS": "x"})


def test_only_the_command_line_reads_the_environment() -> None:
    """Settings are read once and passed in; servers and child processes are given theirs by whoever starts them."""
    allowed = {"app/__main__", "app/verbs", "app/stack", "app/demo", "app/bench", "app/training"}
    readers = {
        path.relative_to(ROOT).as_posix()
        for path in _sources(_PACKAGES)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("environ", "getenv")
        if isinstance(node.value, ast.Name) and node.value.id == "os"
    }
    verbs = {reader for reader in readers if Path(reader).stem.endswith("verb") or Path(reader).parent.name == "verbs"}
    assert {reader for reader in readers - verbs if not reader.startswith(tuple(allowed))} == set()


def test_verbs_are_quick_to_list() -> None:
    """`--help` loads no framework: each verb imports heavy libraries inside its functions."""
    heavy = {
        "faust",
        "tensorflow",
        "onnxruntime",
        "keras",
        "aiokafka",
        "aiobotocore",
        "numpy",
        "PIL",
        "skimage",
        "sklearn",
    }
    done = subprocess.run(
        [sys.executable, "-c", "import sys, app.__main__ as main; main.build(); print(*sys.modules)"],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert heavy & set(done.stdout.split()) == set()


def test_app_agents_and_schemas_come_from_this_root() -> None:
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        assert spec is not None
        assert list(spec.submodule_search_locations or ()) == [str(ROOT / package)]
    assert {info.name for info in pkgutil.iter_modules([str(ROOT)])} >= set(_PACKAGES)
