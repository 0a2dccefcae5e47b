"""Kafka, Connect and the schema registry as locked files from Maven Central: coordinates and sha256 in `maven.lock`.

The digest of each file is checked before each use, so truncated downloads and changed jars are never run.
"""

from __future__ import annotations

import hashlib
import shutil
import tarfile
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from app.errors import StartupRefused

LOCK_FILE: Final = Path(__file__).with_name("maven.lock")
# Receives progress messages, one line each.
Report = Callable[[str], None]
KAFKA: Final = "kafka"
REGISTRY: Final = "registry"
CONNECT: Final = "connect"
# Plugins of Connect, each with its own class loader.
CONNECT_ICEBERG: Final = "connect-iceberg"
CONNECT_AVRO: Final = "connect-avro"
PLUGINS: Final = (CONNECT_ICEBERG, CONNECT_AVRO)

# Roots of `./sightline stack lock`, each resolved separately: together, the managed versions of one root's parent pom
# would replace those of another (kafka-clients 3.8.0 in a 4.1.1 broker).
ROOTS: Final[tuple[tuple[str, str, bool], ...]] = (
    (KAFKA, "org.apache.kafka:kafka_2.13:4.1.1", True),
    # Kafka's pom has no slf4j binding, without which the broker logs nothing.
    (KAFKA, "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3", False),
    (REGISTRY, "io.apicurio:apicurio-registry-app:tar.gz:all:2.6.13.Final", False),
    # The same versions as in deploy/connect/*/pom.xml, which build the image for Docker; a test compares them.
    (CONNECT, "org.apache.kafka:connect-runtime:4.1.1", True),
    (CONNECT, "org.apache.logging.log4j:log4j-slf4j-impl:2.24.3", True),
    (CONNECT_ICEBERG, "org.apache.iceberg:iceberg-kafka-connect:1.12.0", True),
    (CONNECT_ICEBERG, "org.apache.iceberg:iceberg-parquet:1.12.0", True),
    (CONNECT_ICEBERG, "org.apache.iceberg:iceberg-aws:1.12.0", True),
    (CONNECT_ICEBERG, "org.apache.iceberg:iceberg-aws-bundle:1.12.0", False),
    # Parquet needs both, although Hadoop does not run.
    (CONNECT_ICEBERG, "org.apache.hadoop:hadoop-client-api:3.4.2", False),
    (CONNECT_ICEBERG, "org.apache.hadoop:hadoop-client-runtime:3.4.2", True),
    # For the development catalog.
    (CONNECT_ICEBERG, "org.xerial:sqlite-jdbc:3.54.1.0", False),
    (CONNECT_AVRO, "io.apicurio:apicurio-registry-utils-converter:2.6.13.Final", True),
)
# Excluded from plugins: the worker has these, and a second copy of an interface would be a different class.
_OF_THE_WORKER: Final = ("org.apache.kafka", "org.slf4j")
# Downloads are many small files, limited by the mirror's latency; more threads than this were not faster.
_DOWNLOAD_THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class LockedFile:
    """One line of the lock: group, `group:artifact:packaging[:classifier]:version`, digest and size."""

    group: str
    coordinate: str
    sha256: str
    size_bytes: int

    @property
    def file_name(self) -> str:
        """Name of the file in the cache."""
        _, artifact, packaging, *classifier, version = self.coordinate.split(":")
        return "-".join((artifact, version, *classifier)) + f".{packaging}"


def read_lock(path: Path = LOCK_FILE) -> tuple[LockedFile, ...]:
    """Return all lines of the lock. Raises StartupRefused for a line that cannot be read."""
    locked = []
    for line in path.read_text().splitlines():
        words = line.split("#")[0].split()
        if not words:
            continue
        if len(words) != 4 or len(words[2]) != 64 or not words[3].isdigit() or words[1].count(":") not in (3, 4):
            raise StartupRefused(f"{path.name}: cannot read the line {line!r}; restore the file from version control")
        locked.append(LockedFile(words[0], words[1], words[2], int(words[3])))
    return tuple(locked)


def fetch(group: str, cache: Path, report: Report, lock: Path = LOCK_FILE) -> tuple[Path, ...]:
    """Return the paths of all files of `group`. Downloads missing files and verifies all.

    Blocks (network, disk). Raises StartupRefused if a file cannot be downloaded or does not match its digest. Such a
    file is deleted, so the next start downloads it again.
    """
    files = [locked for locked in read_lock(lock) if locked.group == group]
    cache.mkdir(parents=True, exist_ok=True)
    absent = [locked for locked in files if not (cache / locked.file_name).exists()]
    if absent:
        megabytes = sum(locked.size_bytes for locked in absent) / 1e6
        report(f"downloading {len(absent)} files ({megabytes:.0f} MB) of {group} from Maven Central, first use only")
        with (
            tempfile.TemporaryDirectory(prefix="partial-", dir=cache) as partial,
            ThreadPoolExecutor(_DOWNLOAD_THREADS) as pool,
        ):
            list(pool.map(lambda locked: _download(locked, cache, Path(partial)), absent))
    for locked in files:
        _verify(locked, cache / locked.file_name)
    return tuple(cache / locked.file_name for locked in files)


def unpack(archive: Path, target: Path) -> Path:
    """Unpack a verified `tar.gz` into `target` once and return `target`. Never leaves an incomplete folder."""
    if target.exists():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="partial-", dir=target.parent) as partial:
        content = Path(partial) / "content"
        with tarfile.open(archive) as tar:
            tar.extractall(content, filter="data")
        if not target.exists():
            content.rename(target)
    return target


def write_lock(cache: Path, path: Path = LOCK_FILE) -> int:
    """Resolve ROOTS again, download everything, write the lock and return its number of files. Blocks for minutes."""
    from jgo.maven import MavenContext, PythonResolver

    lines = ["# set, coordinate, sha256, bytes. Made by `./sightline stack lock`; verified at every start."]
    with tempfile.TemporaryDirectory(prefix="resolve-", dir=_made(cache)) as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=60)
        taken: set[tuple[str, ...]] = set()
        for group, root, transitive in ROOTS:
            coordinates = [root]
            if transitive:
                inputs, resolved = PythonResolver().resolve([context.create_dependency(root)])
                coordinates = [
                    f"{part.groupId}:{part.artifactId}:{part.type}:{part.version}"
                    for part in sorted([*inputs, *resolved], key=lambda part: (part.groupId, part.artifactId))
                    if part.scope in (None, "compile", "runtime")
                    and not (group in PLUGINS and part.groupId in _OF_THE_WORKER)
                ]
            for coordinate in coordinates:
                # One version of each artifact per class loader: that of the first root that needs it.
                name = (group, *coordinate.split(":")[:2])
                if name in taken:
                    continue
                taken.add(name)
                source = _resolve(_explicit(coordinate), Path(folder))
                lines.append(f"{group} {_explicit(coordinate)} {_sha256(source)} {source.stat().st_size}")
    path.write_text("\n".join(lines) + "\n")
    return len(lines) - 1


def _explicit(coordinate: str) -> str:
    parts = coordinate.split(":")
    return coordinate if len(parts) > 3 else ":".join((*parts[:2], "jar", parts[2]))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _resolve(coordinate: str, repository: Path) -> Path:
    from jgo.maven import MavenContext

    group, artifact, packaging, *classifier, version = coordinate.split(":")
    component = MavenContext(repo_cache=repository, timeout=60).project(group, artifact).at_version(version)
    return Path(component.artifact(classifier[0] if classifier else "", packaging).resolve())


def _download(locked: LockedFile, cache: Path, partial: Path) -> None:
    import requests

    try:
        source = _resolve(locked.coordinate, partial / locked.file_name)
    except (OSError, RuntimeError, requests.RequestException) as error:
        raise StartupRefused(
            f"cannot download {locked.coordinate} from Maven Central ({type(error).__name__}); "
            "check the network (HTTPS_PROXY is honoured) and start again"
        ) from error
    _verify(locked, source)
    # A rename within the cache, so the file is either missing or complete.
    shutil.move(source, cache / locked.file_name)


def _verify(locked: LockedFile, path: Path) -> None:
    actual = _sha256(path)
    if actual != locked.sha256:
        path.unlink(missing_ok=True)
        raise StartupRefused(
            f"{locked.file_name} has sha256 {actual[:12]}…, but maven.lock says {locked.sha256[:12]}…; the file was "
            "removed, start again to download it anew; if that repeats, do not trust the source"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
