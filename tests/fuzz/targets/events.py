"""Upload events: the parser never raises, and what it gives is safe to use."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, assert_never

from app.domain.events import (
    MAX_RECORDS,
    Created,
    Ignored,
    Malformed,
    Removed,
    TestEvent,
    parse_message,
    single_record_message,
)
from app.settings import ROOT
from tests.fuzz.engine import Answer, Broken, Check, Target
from tests.fuzz.texts import JSON

# Parts of the input that details quote. Each value would otherwise be an answer of a new kind.
_VALUE: Final = re.compile(r"(?<=version ).*(?= of )|: line .*")
_SAMPLES: Final = ROOT / "tests" / "samples" / "s3-events"


def check(content: bytes) -> Answer:
    """Check the promises of `parse_message` on one message."""
    parsed = parse_message(content)
    if len(parsed) > MAX_RECORDS:
        raise Broken("more records than allowed")
    seen = []
    for one in parsed:
        match one.event:
            case Created() | Removed() as event:
                _check_text(event.bucket, event.key)
                seen.append(f"{type(event).__name__} {event.dialect.partition(':')[0]}")
            case Malformed() as event:
                seen.append(f"malformed {event.reason} {_VALUE.sub('', event.detail)}")
                if one.part >= 0:
                    parse_message(single_record_message(event.value))
            case Ignored() | TestEvent() as event:
                seen.append(type(event).__name__)
            case _:
                assert_never(one.event)
    return Answer(" ".join(sorted(set(seen)))[:120])


def _check_text(bucket: str, key: str) -> None:
    if not bucket or not key:
        raise Broken("no bucket or no key")
    if any(not (character.isascii() and (character.isalnum() or character in ".-_:")) for character in bucket):
        raise Broken("a bucket that may choose a host")
    key.encode()  # no lone surrogate: Kafka, the store and the lake all take UTF-8


def _seeds(every: int) -> list[bytes]:
    return [
        str(json.loads(path.read_text(encoding="utf-8"))["message"]).encode()
        for path in sorted(_SAMPLES.glob("*.json"))[::every]
    ]


@contextmanager
def _open() -> Iterator[Check]:
    yield check


EVENTS: Final = Target("events", _seeds, _open, JSON, cpu_seconds=1.0)
