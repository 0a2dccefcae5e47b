"""S3 servers: MiniStack (S3 and SQS in memory, a stand-in) and versitygw (files on disk, notifies Kafka itself)."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from app.errors import StartupRefused
from app.stack.jars import Report
from app.stack.options import ACCESS_KEY, SECRET_KEY, StackOptions
from app.stack.ports import HOST
from app.stack.processes import ServerCommand

VERSITYGW_MODULE: Final = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
_BUILD_SECONDS: Final = 900
# Version that the module requires. Go 1.21 and later download a newer toolchain if GOTOOLCHAIN allows it.
GO_LEAST: Final = (1, 24)

MINISTACK_NOTICE: Final = (
    "MiniStack keeps objects in memory, checks no signatures and is a stand-in; "
    "`./sightline stack up --s3 versitygw` runs a real S3 server on disk (needs Go once)"
)


def ministack_command(options: StackOptions, port: int, services: str = "s3,sqs,glue") -> ServerCommand:
    """Return how to start MiniStack on `port`."""
    folder = options.data_dir / "ministack"
    environment = {
        "BIND_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "EDGE_PORT": str(port),
        "SERVICES": services,
        "LOG_LEVEL": "WARNING",
        "TMPDIR": str(folder),
    }
    if options.with_lake:
        # Tables must survive a stop, as Kafka's topics do: the sink does not read committed records again.
        environment |= {"S3_PERSIST": "1", "S3_DATA_DIR": str((folder / "s3").resolve())}
    command = (sys.executable, "-m", "ministack")
    return ServerCommand("ministack", command, options.log_dir / "ministack.log", folder, environment)


def go_is_new_enough(version_line: str) -> bool:
    """Return True if `version_line`, the output of `go version`, belongs to a Go that can build versitygw."""
    match = re.match(r"go version go(\d+)\.(\d+)", version_line)
    return match is not None and (int(match[1]), int(match[2])) >= GO_LEAST


def versitygw_binary(options: StackOptions, report: Report) -> Path:
    """Return the versitygw binary, built once with Go. Blocks for minutes on first use. Raises StartupRefused."""
    tools = options.tools_dir
    tools.mkdir(parents=True, exist_ok=True)
    binary = tools / "versitygw"
    # Another stack may be building it, and an incomplete binary must not be run.
    with (tools / "versitygw.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return binary if binary.exists() else _build_versitygw(options, binary, report)


def _build_versitygw(options: StackOptions, binary: Path, report: Report) -> Path:
    tools = binary.parent
    go = shutil.which("go")
    wanted = f"install Go {GO_LEAST[0]}.{GO_LEAST[1]} or later, or use `--s3 ministack`, which needs nothing"
    if go is None:
        raise StartupRefused(f"versitygw is built from source and Go is missing: {wanted}")
    version_line = subprocess.run([go, "version"], capture_output=True, text=True, check=False).stdout.strip()
    if not go_is_new_enough(version_line):
        raise StartupRefused(f"versitygw is built from source and {go} is too old ({version_line}): {wanted}")
    report("building versitygw with Go, first use only (about 3 minutes)")
    log_file = options.log_dir / "versitygw-build.log"
    log_file.parent.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        done = subprocess.run(
            [go, "install", VERSITYGW_MODULE],
            env={**os.environ, "GOBIN": str(tools.resolve()), "GOFLAGS": "-buildvcs=false"},
            stdout=log,
            stderr=subprocess.STDOUT,
            timeout=_BUILD_SECONDS,
            check=False,
        )
    if done.returncode != 0 or not binary.exists():
        raise StartupRefused(f"Go could not build {VERSITYGW_MODULE}; see {log_file}, or use `--s3 ministack`")
    return binary


def versitygw_command(
    options: StackOptions, binary: Path, port: int, bootstrap: str, topic: str, name: str = "versitygw"
) -> ServerCommand:
    """Return how to start versitygw on `port`, sending its notifications to `topic`, which must exist before."""
    folder = (options.data_dir / name).resolve()
    for child in ("data", "versions"):
        (folder / child).mkdir(parents=True, exist_ok=True)
    event_filter = folder / "filter.json"
    event_filter.write_text(json.dumps({"s3:ObjectCreated:*": True, "s3:ObjectRemoved:*": True}))
    command = (
        # All paths are absolute, because the server changes into its data folder.
        *(str(binary.resolve()), "--port", f"{HOST}:{port}", "--quiet"),
        *("--event-kafka-url", bootstrap, "--event-kafka-topic", topic, "--event-filter", str(event_filter)),
        *("posix", "--versioning-dir", str(folder / "versions"), str(folder / "data")),
    )
    environment = {"ROOT_ACCESS_KEY": ACCESS_KEY, "ROOT_SECRET_KEY": SECRET_KEY}
    return ServerCommand(name, command, options.log_dir / f"{name}.log", folder, environment)
