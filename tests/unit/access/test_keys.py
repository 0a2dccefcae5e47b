"""Tokens and keys: written, read, ended."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.access.keys import KeyRing
from app.domain.api_keys import SCOPES, ApiKey, key_body, key_of, make_token, parse_token, scopes_of
from tests.support.api.in_process import give_key, memory_parts
from tests.support.manual_clock import ManualClock

KEY = ApiKey("abcdefghijkl", "shop", frozenset({"read", "score"}), "a" * 64, 5, 10, rate_per_second=2.5)


@given(st.binary(min_size=8, max_size=8), st.binary(min_size=32, max_size=32))
def test_a_token_is_read_as_it_was_made(id_entropy: bytes, secret_entropy: bytes) -> None:
    token = make_token(id_entropy, secret_entropy)
    assert parse_token(token.text()) == token
    assert len(token.key_id) == 12


def test_entropy_of_another_size_makes_no_token() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        make_token(b"8 bytes.", b"too few")


@pytest.mark.parametrize(
    "text", ["", "slk_", "slk_abcdefghijkl_", "slk_abcdefghijkl_" + "a" * 42, "slk_ABCDEFGHIJKL_" + "a" * 43, "é" * 60]
)
def test_what_is_no_token_is_none(text: str) -> None:
    assert parse_token(text) is None
    assert parse_token("slk_abcdefghijkl_" + "a" * 43 + text + "\n") is None


@given(
    st.builds(
        ApiKey,
        st.text("abcdefghijklmnopqrstuvwxyz234567", min_size=12, max_size=12),
        st.text(),
        st.frozensets(st.sampled_from(SCOPES)),
        st.text("0123456789abcdef", min_size=64, max_size=64),
        st.integers(0, 2**53),
        st.none() | st.integers(0, 2**53),
        st.booleans(),
        st.none() | st.floats(0.1, 1e6),
    )
)
def test_a_key_is_read_as_it_was_written(key: ApiKey) -> None:
    assert key_of(key.id, key_body(key)) == key


@pytest.mark.parametrize(
    "change",
    [
        {"name": 7},
        {"scopes": "read"},
        {"secret_sha256": "short"},
        {"created_ms": "yesterday"},
        {"expires_ms": 1.5},
        {"revoked": "no"},
        {"rate_per_second": 0},
        {"rate_per_second": float("inf")},
        {"rate_per_second": True},
    ],
)
def test_a_body_that_cannot_be_read_is_no_key(change: dict[str, object]) -> None:
    assert key_of(KEY.id, json.dumps({**json.loads(key_body(KEY)), **change})) is None


@pytest.mark.parametrize("body", ["", "[]", "{}", "7", "{"])
def test_another_body_is_no_key(body: str) -> None:
    assert key_of(KEY.id, body) is None


def test_a_scope_of_a_later_version_is_left_out_and_the_rest_stands() -> None:
    body = json.dumps({**json.loads(key_body(KEY)), "scopes": ["read", "paint", 7]})
    found = key_of(KEY.id, body)
    assert found is not None
    assert found.scopes == {"read"}


def test_a_key_ends_when_it_expires_or_is_revoked() -> None:
    assert KEY.valid_at(9)
    assert not KEY.valid_at(10)
    assert not KEY.revoke().valid_at(9)
    assert [KEY.state_at(9), KEY.state_at(10), KEY.revoke().state_at(9)] == ["valid", "expired", "revoked"]


def test_an_unknown_scope_is_refused_by_name() -> None:
    assert scopes_of(["read", "admin"]) == {"read", "admin"}
    with pytest.raises(ValueError, match="paint is no scope; scopes are read, score, moderate, admin"):
        scopes_of(["read", "paint"])


def test_neither_key_nor_token_prints_its_secret() -> None:
    token = make_token(b"8 bytes.", b"32 bytes that nobody could guess")
    assert token.secret not in repr(token)
    assert KEY.secret_sha256 not in repr(KEY)


def test_a_ring_finds_the_key_of_a_right_token_alone() -> None:
    parts = memory_parts()
    token, key = give_key(parts, ["read"])
    other, _ = give_key(parts, ["read"], name="other")
    ring = parts.keys
    assert ring.find(token.text()) == key
    assert ring.find(token.text()) == key, "also from what it remembers"
    assert ring.find(dataclasses.replace(token, secret=other.secret).text()) is None
    assert ring.find(dataclasses.replace(token, key_id="a" * 12).text()) is None
    assert ring.find("") is None


def test_a_remembered_token_ends_with_its_key() -> None:
    clock = ManualClock()
    parts = memory_parts(clock=clock)
    token, key = give_key(parts, ["read"], expires_ms=clock.now_ms() + 60_000)
    assert parts.keys.find(token.text()) == key
    parts.keys.learn(key.id, key.revoke(), 100)
    assert parts.keys.find(token.text()) is None
    assert parts.keys.valid(key.id) is None


async def test_a_remembered_token_ends_when_its_key_expires() -> None:
    clock = ManualClock()
    parts = memory_parts(clock=clock)
    token, key = give_key(parts, ["read"], expires_ms=clock.now_ms() + 60_000)
    assert parts.keys.find(token.text()) == key
    await clock.sleep(60)
    assert parts.keys.find(token.text()) is None


def test_an_older_record_of_a_key_changes_nothing() -> None:
    """What is followed begins before what was read: a creation may come after the revocation that follows it."""
    parts = memory_parts()
    token, key = give_key(parts, ["read"])
    parts.keys.learn(key.id, key.revoke(), 8)
    parts.keys.learn(key.id, key, 7)
    assert parts.keys.find(token.text()) is None
    parts.keys.learn(key.id, None, 9)
    parts.keys.learn(key.id, key, 8)
    assert parts.keys.find(token.text()) is None


async def test_a_ring_is_deaf_after_a_while_without_the_broker() -> None:
    clock = ManualClock()
    ring = KeyRing(clock)
    assert (ring.ready, ring.healthy, ring.heard_ms) == (False, False, None)
    ring.replace({})
    ring.hear()
    heard_ms = clock.now_ms()
    assert (ring.ready, ring.healthy, ring.heard_ms) == (True, True, heard_ms)
    await clock.sleep(20)
    assert (ring.ready, ring.healthy, ring.heard_ms) == (True, False, heard_ms)
