"""Policies: loading the file at start-up, and finding the version that decided an old flag."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from app.domain.policy import Policy, check_references, parse_policy, run_cases
from app.errors import PolicyError
from app.pipeline.moderate import POLICY_KIND
from schemas.records import ControlRecord

# A hundred times the size of a policy with a few dozen rules.
_MAX_BYTES: Final = 256 * 1024


def read_policy(path: Path) -> Policy:
    """Return the parsed policy in `path`, without further checks. Raises PolicyError with file, line and reason."""
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PolicyError(f"{path}: larger than {_MAX_BYTES} bytes, the limit of a policy")
        return parse_policy(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise PolicyError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path}: not UTF-8 text at byte {error.start}") from error


def load_policy(path: Path, models_dir: Path) -> Policy:
    """Return the checked policy in `path`: parsed, models and labels exist, its own tests pass.

    Models are checked if `models_dir` contains any. Raises PolicyError with file, line and reason.
    """
    policy = read_policy(path)
    labels = known_labels(models_dir)
    if labels:
        check_references(policy, labels)
    failures = run_cases(policy)
    if failures:
        first = failures[0]
        raise PolicyError(f"{path}, line {first.line}: the policy's own test {first.case!r} fails: {first.reason}")
    return policy


def known_labels(models_dir: Path) -> Mapping[str, frozenset[str]]:
    """Return the labels of all versions by model name, read from `models_dir`. Raises ManifestError."""
    if not models_dir.is_dir():
        return {}
    from app.inference.registry import find_manifests

    labels: dict[str, frozenset[str]] = {}
    for manifest in find_manifests(models_dir):
        labels[manifest.name] = labels.get(manifest.name, frozenset()) | frozenset(manifest.labels)
    return labels


class PolicyArchive:
    """Policies by name and full version: first those that workers published on `control.v1`, then files in policies/.

    A released version may also be kept as policies/<name>/<version>.yaml. It is accepted only if its digest matches.
    """

    def __init__(self, records: Iterable[ControlRecord], folder: Path, current: Path) -> None:
        self._records = {record.name: record for record in records if record.kind == POLICY_KIND}
        self._folder = folder
        self._current = current

    def find(self, name: str, full_version: str) -> Policy | None:
        """Return exactly this version, or None if it was not kept."""
        record = self._records.get(f"{name}/{full_version}")
        if record is not None:
            return parse_policy(str(json.loads(record.body)["text"]), f"control.v1 policy {record.name}")
        version = full_version.partition("+")[0]
        for path in (self._folder / name / f"{version}.yaml", self._current):
            policy = self._read(path)
            if policy is not None and (policy.name, policy.full_version) == (name, full_version):
                return policy
        return None

    def newest(self, name: str | None = None) -> Policy | None:
        """Return the policy that a worker published last, or None."""
        records = [r for r in self._records.values() if name is None or r.name.startswith(f"{name}/")]
        if not records:
            return None
        record = max(records, key=lambda candidate: candidate.written_at_ms)
        return parse_policy(str(json.loads(record.body)["text"]), f"control.v1 policy {record.name}")

    def _read(self, path: Path) -> Policy | None:
        if not path.is_file():
            return None
        try:
            return read_policy(path)
        except PolicyError:
            return None  # an invalid file cannot be the requested version
