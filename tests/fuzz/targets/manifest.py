"""Model manifests: a wrong one is refused with ManifestError, whatever is in it."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from app.errors import ManifestError
from app.inference.manifest import read_manifest
from app.settings import ROOT
from tests.fuzz.engine import Answer, Broken, Check, Target
from tests.fuzz.texts import YAML

_NAME: Final = re.compile(rb"^name: .*$", re.MULTILINE)


def _seeds(every: int) -> list[bytes]:
    found = sorted((ROOT / "models").glob("*/1/model.yaml"))
    return [_NAME.sub(b"name: toy", path.read_bytes()) for path in found[::every]]


@contextmanager
def _open() -> Iterator[Check]:
    with tempfile.TemporaryDirectory() as temporary:
        path = Path(temporary) / "toy" / "1" / "model.yaml"
        path.parent.mkdir(parents=True)

        def check(content: bytes) -> Answer:
            path.write_bytes(content)
            try:
                manifest = read_manifest(path)
            except ManifestError as error:
                if len(str(error)) > 10_000:
                    raise Broken("a refusal that nobody can read") from error
                return Answer(f"refused {str(error).removeprefix(str(path))}")
            return Answer(f"{manifest.kind} {manifest.runtime} {len(manifest.labels)}")

        yield check


MANIFEST: Final = Target("manifest", _seeds, _open, YAML, cpu_seconds=2.0)
