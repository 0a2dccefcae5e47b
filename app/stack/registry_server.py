"""Apicurio Registry in memory. It loses its schemas at every stop; each start registers them from schemas/."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from app.errors import StartupRefused
from app.stack import jars, jvm
from app.stack.options import StackOptions
from app.stack.ports import HOST
from app.stack.processes import ServerCommand

_HEAP_MEGABYTES: Final = 384


def registry_folder(options: StackOptions, report: jars.Report) -> Path:
    """Return the unpacked registry; download and verify it if missing. Blocks. Raises StartupRefused."""
    (archive,) = jars.fetch(jars.REGISTRY, options.tools_dir / "maven", report)
    return jars.unpack(archive, options.tools_dir / archive.name.removesuffix(".tar.gz"))


def registry_command(options: StackOptions, folder: Path, port: int) -> ServerCommand:
    """Return how to start the registry on `port`. May block for a second on first use."""
    runners = sorted(folder.glob("*-runner.jar"))
    if not runners:
        raise StartupRefused(f"{folder} holds no registry; remove that folder and start again")
    quarkus = (
        f"-Dquarkus.http.host={HOST}",
        f"-Dquarkus.http.port={port}",
        "-Dquarkus.log.console.color=false",
        # The process is short-lived and idle, so the second compiler would only cost start-up time.
        "-XX:TieredStopAtLevel=1",
    )
    archive = jvm.class_archive(options.tools_dir, "registry", runners[:1])
    command = jvm.jar_command(runners[0], heap_megabytes=_HEAP_MEGABYTES, options=(*quarkus, *archive.options))
    return ServerCommand(
        "registry",
        tuple(command),
        options.log_dir / "registry.log",
        options.data_dir / "registry",
        after_orderly_stop=archive.keep,
    )


def registry_url(port: int) -> str:
    """Base address of the Confluent API."""
    return f"http://{HOST}:{port}/apis/ccompat/v7"
