"""The targets by name, one file each."""

from typing import Final

from tests.fuzz.engine import Target
from tests.fuzz.targets.avro import AVRO
from tests.fuzz.targets.decoding import DECODING
from tests.fuzz.targets.events import EVENTS
from tests.fuzz.targets.headers import HEADERS
from tests.fuzz.targets.manifest import MANIFEST
from tests.fuzz.targets.policy import POLICY
from tests.fuzz.targets.protocol import PROTOCOL

TARGETS: Final[dict[str, Target]] = {
    target.name: target for target in (HEADERS, EVENTS, AVRO, POLICY, MANIFEST, PROTOCOL, DECODING)
}
