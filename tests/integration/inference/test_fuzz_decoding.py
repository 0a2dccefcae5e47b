"""A short run of the decoders in their child process, and every input that once broke a promise of theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.engine import Fuzzer, checked, samples
from tests.fuzz.targets.decoding import DECODING


def test_a_short_run_breaks_no_promise(tmp_path: Path) -> None:
    report = Fuzzer(DECODING, 1, tmp_path).run(300, 60.0, every=12)
    assert report.findings == []
    assert report.signatures > 20 and report.figures["grown_bytes"] > 0


@pytest.mark.parametrize("path", samples(DECODING.name), ids=lambda path: path.name)
def test_an_input_that_broke_a_promise_breaks_none(path: Path) -> None:
    with DECODING.open() as check:
        assert checked(check, DECODING, path.read_bytes())[1] == ""
