from __future__ import annotations

import json

from app.domain.policy import parse_policy
from app.pipeline.moderate import ModerateProcessor
from app.ports.records import Output
from app.settings import ROOT
from app.systems.registry.avro import Codec
from schemas.records import ControlRecord, DeadLetter, FlaggedImage
from tests.support.manual_clock import ManualClock
from tests.support.outcomes import prediction, scores, source_record

CODEC = Codec()
POLICY = parse_policy((ROOT / "policies" / "default.yaml").read_text(), "policies/default.yaml")
NUDE = CODEC.encode(prediction(scores=(scores("nsfw", nsfw=0.97),)))


def processor() -> ModerateProcessor:
    return ModerateProcessor(CODEC, POLICY, ManualClock(), "worker-1")


def flags(outputs: tuple[Output, ...]) -> list[FlaggedImage]:
    return [output.record for output in outputs if isinstance(output.record, FlaggedImage)]


def policies(outputs: tuple[Output, ...]) -> list[ControlRecord]:
    return [output.record for output in outputs if isinstance(output.record, ControlRecord)]


async def test_a_match_is_published_under_the_image() -> None:
    completion = await processor().process(source_record(NUDE, offset=5))
    (flag,) = flags(completion.outputs)
    (output,) = [output for output in completion.outputs if output.record is flag]
    assert (output.topic, output.key) == ("image.flagged.v1", b"images/shop/photo-0001.jpg")
    assert flag.prediction.offset == 5
    assert completion.claim is None


async def test_the_policy_leaves_with_the_first_record_of_each_partition_and_not_again() -> None:
    moderate = processor()
    first = await moderate.process(source_record(NUDE, offset=5))
    (archived,) = policies(first.outputs)
    assert (archived.kind, archived.name) == ("policy", f"default/{POLICY.full_version}")
    assert parse_policy(json.loads(archived.body)["text"], "archive").full_version == POLICY.full_version
    assert policies((await moderate.process(source_record(NUDE, offset=6))).outputs) == []
    assert len(policies((await moderate.process(source_record(NUDE, offset=6, partition=1))).outputs)) == 1


async def test_a_redelivered_first_record_carries_the_policy_again() -> None:
    moderate = processor()
    await moderate.process(source_record(NUDE, offset=5))
    await moderate.process(source_record(NUDE, offset=6))
    assert len(policies((await moderate.process(source_record(NUDE, offset=5))).outputs)) == 1


async def test_an_unreadable_record_is_a_dead_letter_with_its_bytes() -> None:
    completion = await processor().process(source_record(b"\x00\x00\x00\x00\x02rubbish", offset=9))
    (letter,) = [output.record for output in completion.outputs if isinstance(output.record, DeadLetter)]
    assert (letter.agent, letter.reason, letter.value) == ("moderate", "undecodable", b"\x00\x00\x00\x00\x02rubbish")
    assert completion.dead_letters == 1
    assert flags(completion.outputs) == []


async def test_an_ordinary_image_only_moves_the_offset() -> None:
    moderate = processor()
    await moderate.process(source_record(NUDE, offset=1))
    assert (await moderate.process(source_record(CODEC.encode(prediction()), offset=2))).outputs == ()
