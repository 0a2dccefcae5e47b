"""Records on the wire: decoding raises Poison alone, and what was decoded can be written again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from app.errors import Poison
from app.settings import ROOT
from app.systems.registry.avro import Codec
from schemas.records import RECORDS
from tests.fuzz.engine import Answer, Broken, Check, Target
from tests.fuzz.mutations import BYTES

_EXAMPLES: Final = ROOT / "schemas" / "examples"


def _seeds(every: int) -> list[bytes]:
    return [bytes.fromhex(path.read_text()) for path in sorted(_EXAMPLES.glob("*.hex"))[::every]]


@contextmanager
def _open() -> Iterator[Check]:
    codec = Codec()

    def check(content: bytes) -> Answer:
        try:
            codec.fields(content)
            record = codec.decode(content)
        except Poison as error:
            return Answer(f"poison {error}")
        written = codec.encode(record)
        # Bytes, not values: two NaN are not equal.
        if codec.encode(codec.decode(written)) != written:
            raise Broken("written and read again, it is another record")
        for kind in RECORDS.values():
            try:
                codec.decode_as(content, kind)
            except Poison as error:
                if isinstance(record, kind):
                    raise Broken("read as its own kind, it is refused") from error
        return Answer(f"{type(record).__name__} {len(written).bit_length()}")

    yield check


AVRO: Final = Target("avro", _seeds, _open, BYTES, cpu_seconds=0.5)
