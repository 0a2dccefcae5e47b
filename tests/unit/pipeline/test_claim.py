from __future__ import annotations

from dataclasses import replace

from app.domain.claims import StoredClaim, decide, row_key
from app.pipeline.score import claim_of
from app.systems.registry.avro import Codec
from schemas.records import ImageTask, Position

TASK = ImageTask(
    "listed-1",
    "images",
    "a.jpg",
    None,
    None,
    "b2ea9f7fcea831a4a63b213f41a8855b",
    9,
    "listing",
    "listed",
    None,
    "",
    0,
    7,
    Position("listing", 0, 0),
    "backfill",
    0,
    0,
    "",
    None,
    None,
    (),
    False,
    (),
    1_000,
    5_000,
)
AT = Position("image.backfill.v1", 3, 17)


def test_the_claim_of_a_listed_object_meets_its_late_notification() -> None:
    listed = claim_of(TASK)
    late = claim_of(
        replace(TASK, upload_id="notified-1", event_time_ms=4_000, covers_from_ms=None, covers_until_ms=None)
    )
    later = replace(late, upload_id="notified-2", event_time_ms=6_000)
    assert row_key(listed.upload_id, listed.object_id) == row_key(late.upload_id, late.object_id)

    row = decide(
        None, StoredClaim(listed.upload_id, 0, AT, listed.event_time_ms, listed.covers_from_ms, listed.covers_until_ms)
    ).row
    assert decide(row, StoredClaim(late.upload_id, 0, replace(AT, offset=90), late.event_time_ms)).repeat
    assert not decide(row, StoredClaim(later.upload_id, 0, replace(AT, offset=91), later.event_time_ms)).repeat


def test_a_job_claims_for_itself_alone() -> None:
    claim = claim_of(replace(TASK, job_id="job-1"))
    assert claim.object_id == ""
    assert row_key(claim.upload_id, claim.object_id) == b"listed-1"


def test_the_window_survives_the_wire() -> None:
    codec = Codec()
    assert codec.decode_as(codec.encode(TASK), ImageTask) == TASK
