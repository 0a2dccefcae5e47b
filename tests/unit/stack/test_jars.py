"""The lock of jars: what is run is what was locked."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from app.errors import StartupRefused
from app.stack import jars


def _lock(folder: Path, content: bytes, coordinate: str = "org.example:thing:jar:1.0") -> Path:
    path = folder / "test.lock"
    path.write_text(f"# a comment\nkafka {coordinate} {hashlib.sha256(content).hexdigest()} {len(content)}\n")
    return path


def test_the_shipped_lock_names_every_root() -> None:
    locked = {line.coordinate: line for line in jars.read_lock()}
    assert {line.group for line in jars.read_lock()} == {group for group, *_ in jars.ROOTS}
    for _, root, _ in jars.ROOTS:
        group, artifact, *packaging, version = root.split(":")
        assert ":".join((group, artifact, *(packaging or ["jar"]), version)) in locked
    assert "org.apache.kafka:kafka-clients:jar:4.1.1" in locked, "the broker's own version, not a managed one"
    assert locked["io.apicurio:apicurio-registry-app:tar.gz:all:2.6.13.Final"].file_name == (
        "apicurio-registry-app-2.6.13.Final-all.tar.gz"
    )


def test_a_plugin_brings_nothing_that_the_worker_has() -> None:
    for line in jars.read_lock():
        if line.group in jars.PLUGINS:
            assert not line.coordinate.startswith(("org.apache.kafka:", "org.slf4j:")), line.coordinate
            artifact = line.coordinate.rsplit(":", 1)[0]
            same = [other for other in jars.read_lock() if other.group == line.group]
            assert [other.coordinate.rsplit(":", 1)[0] for other in same].count(artifact) == 1


@pytest.mark.parametrize("line", ["kafka org.example:thing:jar:1.0", "kafka thing abc 5", "one two three four five"])
def test_a_line_that_cannot_be_read_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "bad.lock").write_text(line + "\n")
    with pytest.raises(StartupRefused, match="cannot read the line"):
        jars.read_lock(tmp_path / "bad.lock")


def test_a_file_that_matches_its_digest_is_used_without_network(tmp_path: Path) -> None:
    lock = _lock(tmp_path, b"good")
    cached = tmp_path / "cache" / "thing-1.0.jar"
    cached.parent.mkdir()
    cached.write_bytes(b"good")
    assert jars.fetch("kafka", tmp_path / "cache", pytest.fail, lock) == (cached,)


def test_a_file_that_does_not_match_is_refused_and_removed(tmp_path: Path) -> None:
    lock = _lock(tmp_path, b"good")
    cached = tmp_path / "cache" / "thing-1.0.jar"
    cached.parent.mkdir()
    cached.write_bytes(b"truncated or changed")
    with pytest.raises(StartupRefused, match=r"thing-1\.0\.jar has sha256 .* maven\.lock says"):
        jars.fetch("kafka", tmp_path / "cache", pytest.fail, lock)
    assert not cached.exists()


@pytest.mark.disable_socket
@pytest.mark.filterwarnings("ignore:A test tried to use socket")
def test_a_missing_download_is_one_clear_sentence(tmp_path: Path) -> None:
    """Sockets are blocked here, as on a machine without network."""
    lock = _lock(tmp_path, b"good")
    said: list[str] = []
    with pytest.raises(StartupRefused, match=r"cannot download org\.example:thing:jar:1\.0 from Maven Central"):
        jars.fetch("kafka", tmp_path / "cache", said.append, lock)
    assert said == ["downloading 1 files (0 MB) of kafka from Maven Central, first use only"]
    assert list((tmp_path / "cache").iterdir()) == [], "no partial file remains"


def test_unpacking_happens_once_and_keeps_the_tree(tmp_path: Path) -> None:
    archive = tmp_path / "thing.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in (("runner.jar", b"run"), ("lib/one.jar", b"one"), ("content/odd", b"odd")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    target = tmp_path / "out" / "thing"
    assert jars.unpack(archive, target) == target
    assert (target / "lib" / "one.jar").read_bytes() == b"one"
    assert (target / "content" / "odd").read_bytes() == b"odd"
    archive.unlink()
    assert jars.unpack(archive, target) == target
    assert [path.name for path in target.parent.iterdir()] == ["thing"]
