"""Claims: repeats, retries, and the meeting of a listing with a late notification."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.claims import MAX_CLAIMS_PER_ROW, StoredClaim, decide, decode_row, row_key
from schemas.records import Position

T = 1_795_000_000_000


def claim(name: str = "a" * 32, *, attempt: int = 1, at: int = 0, time: int = T) -> StoredClaim:
    return StoredClaim(name, attempt, Position("image.tasks.v1", 0, at), time)


def listing(name: str = "f" * 32, *, at: int = 100, first: int = T - 1000, until: int = T + 60_000) -> StoredClaim:
    return StoredClaim(name, 1, Position("image.backfill.v1", 0, at), T, first, until)


class Row:
    """A row as the lane keeps it."""

    def __init__(self) -> None:
        self.value: bytes | None = None

    def published(self, asking: StoredClaim) -> bool:
        decision = decide(self.value, asking)
        if decision.row is not None:
            self.value = decision.row
        return not decision.repeat


def test_the_first_goes_its_repeat_does_not_and_its_own_position_goes_again() -> None:
    row = Row()
    assert row.published(claim(at=1))
    assert not row.published(claim(at=2))
    assert row.published(claim(at=1))


def test_a_higher_attempt_takes_over_and_the_lower_one_is_a_repeat_from_then_on() -> None:
    row = Row()
    assert row.published(claim(at=1))
    assert row.published(claim(attempt=2, at=2))
    assert row.published(claim(attempt=2, at=2))
    assert not row.published(claim(at=1))
    assert not row.published(claim(attempt=2, at=3))


def test_the_same_bytes_uploaded_again_are_a_new_upload() -> None:
    row = Row()
    assert row.published(claim("a" * 32, at=1, time=T))
    assert row.published(claim("b" * 32, at=2, time=T + 5))
    assert not row.published(claim("a" * 32, at=3, time=T))


def test_a_late_notification_of_what_was_listed_is_a_repeat_for_ever() -> None:
    row = Row()
    assert row.published(listing())
    assert not row.published(claim(at=1, time=T))
    assert not row.published(claim(at=2, time=T))
    assert row.published(listing())


def test_a_listing_of_what_was_notified_meanwhile_is_a_repeat() -> None:
    row = Row()
    assert row.published(claim(time=T))
    assert not row.published(listing())
    assert not row.published(listing())
    assert row.published(claim(time=T))


def test_deleted_and_uploaded_again_with_the_same_bytes_gets_its_own_outcome() -> None:
    row = Row()
    assert row.published(listing())
    assert row.published(claim("b" * 32, at=7, time=T + 600_000))
    # And the other way round: the listing found the second upload, whose notification was lost.
    row = Row()
    assert row.published(claim("a" * 32, time=T - 600_000))
    assert row.published(listing())


def test_one_listing_stands_for_one_upload() -> None:
    row = Row()
    assert row.published(listing())
    assert not row.published(claim("a" * 32, at=1, time=T))
    assert row.published(claim("b" * 32, at=2, time=T + 10))
    assert not row.published(claim("a" * 32, at=3, time=T))


def test_a_listing_twice_is_a_repeat_and_its_retry_takes_over() -> None:
    row = Row()
    assert row.published(listing(at=1))
    assert not row.published(listing(at=2))
    assert not row.published(claim(at=1))
    assert row.published(replace(listing(at=3), attempt=2))
    assert not row.published(claim(at=2))


def test_a_row_is_bounded_and_keeps_the_newest() -> None:
    row = Row()
    for n in range(MAX_CLAIMS_PER_ROW + 10):
        assert row.published(claim(f"{n:032x}", at=n, time=T + n))
    stored = decode_row(row.value)
    assert len(stored) == MAX_CLAIMS_PER_ROW
    assert stored[-1].upload_id == f"{MAX_CLAIMS_PER_ROW + 9:032x}"
    assert len(row.value or b"") < 2_000


def test_a_job_has_a_row_of_its_own() -> None:
    assert row_key("upload", "") == b"upload"
    assert row_key("upload", "object") == b"object"


@given(
    st.builds(
        StoredClaim,
        upload_id=st.text("0123456789abcdef", min_size=1, max_size=64),
        attempt=st.integers(0, 60_000),
        position=st.builds(Position, st.text(max_size=20), st.integers(0, 2**31), st.integers(0, 2**62)),
        event_time_ms=st.integers(0, 2**50),
        covers_from_ms=st.integers(0, 2**50),
        covers_until_ms=st.integers(0, 2**50),
    )
)
def test_rows_read_back(asking: StoredClaim) -> None:
    plain = replace(asking, covers_from_ms=None, covers_until_ms=None)
    assert decode_row(decide(None, asking).row) == (asking,)
    assert decode_row(decide(None, plain).row) == (plain,)


@given(st.binary(min_size=1, max_size=80))
def test_foreign_bytes_are_refused_in_one_way(value: bytes) -> None:
    try:
        decode_row(value)
    except ValueError:
        return
    assert value[0] == 1


def test_a_cut_row_is_refused() -> None:
    row = decide(None, claim()).row
    assert row is not None
    with pytest.raises(ValueError, match="not a claims row"):
        decode_row(row[:-1])


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), max_size=30))
def test_every_upload_is_published_once_in_whatever_order_notifications_and_listings_come(
    arrivals: list[tuple[int, bool]],
) -> None:
    """Six uploads of the same bytes under one key, 100 s apart; each may be told of and listed any number of times."""
    row = Row()
    published = []
    for at, (number, by_listing) in enumerate(arrivals):
        time = T + number * 100_000
        if by_listing:
            asking = replace(
                listing(f"{number:032x}", at=at, first=time - 1000, until=time + 60_000), event_time_ms=time
            )
        else:
            asking = claim(f"{number + 100:032x}", at=at, time=time + 250)
        if row.published(asking):
            published.append(number)
    assert sorted(published) == sorted({number for number, _ in arrivals})
