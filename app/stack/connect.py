"""Kafka Connect worker with the Iceberg sink and the Avro converter; each plugin is a folder of locked jars."""

from __future__ import annotations

import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from app.lake.connect.config import CONNECT_DIR
from app.stack import jars, jvm
from app.stack.options import StackOptions
from app.stack.processes import ServerCommand
from app.stack.verbs import verb_server

_HEAP_MEGABYTES: Final = 768
# Missing in the converter's jar. With it Connect finds the class without reading all classes.
_SERVICES: Final = CONNECT_DIR / "avro" / "services"
_SERVICES_JAR: Final = "sightline-services.jar"


def connect_jars(options: StackOptions, report: jars.Report) -> tuple[Path, ...]:
    """Return the worker's verified jars, downloading missing ones, and create its plugin folders. Blocks."""
    cache = options.tools_dir / "maven"
    classpath = jars.fetch(jars.CONNECT, cache, report)
    for group in jars.PLUGINS:
        _lay_out(plugins_dir(options) / group, jars.fetch(group, cache, report))
    _add_services(plugins_dir(options) / jars.CONNECT_AVRO / _SERVICES_JAR)
    return classpath


def _add_services(target: Path) -> None:
    """Add the service manifests to a jar, once, because another stack's worker may have the jar open."""
    if target.exists():
        return
    partial = target.with_suffix(f".{os.getpid()}")
    with zipfile.ZipFile(partial, "w") as jar:
        for path in sorted(_SERVICES.rglob("*")):
            jar.write(path, path.relative_to(_SERVICES).as_posix())
    partial.replace(target)


def plugins_dir(options: StackOptions) -> Path:
    """Return the folder that worker.properties calls `plugins`."""
    return options.tools_dir / "connect" / "plugins"


def connect_command(
    options: StackOptions, classpath: tuple[Path, ...], environment: Mapping[str, str], name: str = "connect"
) -> ServerCommand:
    """Return how to start a worker; `environment` is that of connect.config.worker_environment. Blocks shortly."""
    folder = options.data_dir / name
    folder.mkdir(parents=True, exist_ok=True)
    logging = CONNECT_DIR / "log4j2.properties"
    archive = jvm.class_archive(options.tools_dir, "connect", classpath)
    command = jvm.java_command(
        classpath,
        "org.apache.kafka.connect.cli.ConnectDistributed",
        heap_megabytes=_HEAP_MEGABYTES,
        options=(f"-Dlog4j2.configurationFile={logging}", *archive.options),
    )
    return ServerCommand(
        name,
        (*command, str(CONNECT_DIR / "worker.properties")),
        options.log_dir / f"{name}.log",
        # `plugins` in worker.properties is relative.
        plugins_dir(options).parent,
        environment,
        after_orderly_stop=archive.keep,
    )


def watch_command(options: StackOptions, environment: Mapping[str, str]) -> ServerCommand:
    """Return how to start `lake watch` beside a worker."""
    return verb_server("lake-watch", ("lake", "watch"), options.log_dir / "lake-watch.log", environment)


def _lay_out(folder: Path, files: tuple[Path, ...]) -> None:
    """Fill `folder` with exactly `files`, as hard links if the disk allows."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {path.name for path in files} | {_SERVICES_JAR}
    for path in folder.glob("*.jar"):
        if path.name not in wanted:
            path.unlink(missing_ok=True)
    for path in files:
        target = folder / path.name
        if target.exists():
            continue
        partial = folder / f".{path.name}.{os.getpid()}"
        try:
            os.link(path, partial)
        except OSError:
            shutil.copyfile(path, partial)
        partial.replace(target)
