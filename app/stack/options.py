"""Options of a local stack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from app.settings import ROOT, LakeSettings, TableSettings, load_settings

StoreKind = Literal["ministack", "versitygw"]

# Servers on loopback only. The keys protect nothing; the clients merely require some.
ACCESS_KEY: Final = "sightline"
SECRET_KEY: Final = "sightline-secret"
REGION: Final = "us-east-1"

# Defaults for one developer, which settings override: SQL answers are seconds behind, and one task leaves a core to
# everything else.
LOCAL_LAKE: Final[Mapping[str, str]] = {
    "SIGHTLINE_LAKE_COMMIT_SECONDS": "10",
    "SIGHTLINE_LAKE_COMMIT_TIMEOUT_SECONDS": "20",
    "SIGHTLINE_LAKE_TASKS": "1",
}


@dataclass(frozen=True, slots=True)
class StackOptions:
    """Options of a stack. A port of None means any free port."""

    var_dir: Path = ROOT / "var"
    tools_dir: Path = ROOT / ".tools"
    s3: StoreKind = "ministack"
    bucket: str = "images"
    queue: str = "sightline-uploads"
    partitions: int = 8
    topic_prefix: str = ""
    tables: TableSettings = field(default_factory=TableSettings)
    kafka_port: int | None = None
    registry_port: int | None = None
    redis_port: int | None = None
    s3_port: int | None = None
    min_free_bytes: int = 2_000_000_000
    # With a cold page cache a busy machine with 2 cores needed 20 s; after six times that, the start has failed.
    ready_seconds: float = 120.0
    fresh: bool = False
    lake: LakeSettings = field(default_factory=lambda: load_settings(LOCAL_LAKE).lake)
    connect_port: int | None = None
    with_kafka: bool = True
    with_registry: bool = True
    with_redis: bool = True
    with_s3: bool = True
    with_lake: bool = False
    # Agents to run, in the order of display; with any of them the bridge and the API run too.
    agents: tuple[str, ...] = ()
    api_port: int | None = None
    api_score: bool = True

    @property
    def data_dir(self) -> Path:
        """Folder of the servers' data."""
        return self.var_dir / "stack"

    @property
    def log_dir(self) -> Path:
        """Folder of the servers' logs."""
        return self.var_dir / "log"

    @property
    def pid_dir(self) -> Path:
        """Folder of the pid files."""
        return self.var_dir / "run"
