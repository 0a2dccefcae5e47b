"""API keys: format of tokens, scopes and expiry. Pure.

A token is `slk_<id>_<secret>`. Only the sha256 of the secret is stored. A slow password hash would add nothing: the
secret is 256 random bits, and the hash is computed for each request.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, get_args

Scope = Literal["read", "score", "moderate", "admin"]
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
API_KEY_KIND: Final = "api_key"
ID_BYTES: Final = 8
SECRET_BYTES: Final = 32
_ID_LETTERS: Final = 12
# The id contains no underscore, so the second underscore ends it; the secret may contain underscores.
_TOKEN: Final = re.compile(r"slk_([a-z2-7]{12})_([A-Za-z0-9_-]{43})")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key as stored on `control.v1`.

    `rate_per_second` None: the rate of the settings. `expires_ms` None: the key never expires.
    """

    id: str
    name: str
    scopes: frozenset[Scope]
    secret_sha256: str = field(repr=False)
    created_ms: int
    expires_ms: int | None = None
    revoked: bool = False
    rate_per_second: float | None = None

    def valid_at(self, now_ms: int) -> bool:
        """Return whether the key may be used at `now_ms`."""
        return not self.revoked and (self.expires_ms is None or now_ms < self.expires_ms)

    def revoke(self) -> ApiKey:
        """Return a revoked copy."""
        return replace(self, revoked=True)

    def state_at(self, now_ms: int) -> str:
        """Return `valid`, `expired` or `revoked`."""
        if self.revoked:
            return "revoked"
        return "valid" if self.valid_at(now_ms) else "expired"


@dataclass(frozen=True, slots=True)
class Token:
    """The parts of a token."""

    key_id: str
    secret: str = field(repr=False)

    @property
    def secret_sha256(self) -> str:
        """Digest of the secret, as the key stores it."""
        return hashlib.sha256(self.secret.encode()).hexdigest()

    def text(self) -> str:
        """Return the token as text, as its owner gets it."""
        return f"slk_{self.key_id}_{self.secret}"


def make_token(id_entropy: bytes, secret_entropy: bytes) -> Token:
    """Return the token made from ID_BYTES and SECRET_BYTES random bytes."""
    if len(id_entropy) != ID_BYTES or len(secret_entropy) != SECRET_BYTES:
        raise ValueError("a token is made of 8 and 32 random bytes")
    key_id = base64.b32encode(id_entropy).decode().lower()[:_ID_LETTERS]
    return Token(key_id, base64.urlsafe_b64encode(secret_entropy).decode().rstrip("="))


def parse_token(text: str) -> Token | None:
    """Return the parts of a token, or None if `text` is not a token."""
    match = _TOKEN.fullmatch(text)
    return None if match is None else Token(match[1], match[2])


def scopes_of(words: Iterable[str]) -> frozenset[Scope]:
    """Return `words` as scopes. Raises ValueError for an unknown scope."""
    known = {scope: scope for scope in SCOPES}
    unknown = sorted(set(words) - set(known))
    if unknown:
        raise ValueError(f"{unknown[0]} is no scope; scopes are {', '.join(SCOPES)}")
    return frozenset(known[word] for word in words if word in known)


def key_body(key: ApiKey) -> str:
    """Return the JSON body of the key's ControlRecord."""
    return json.dumps(
        {
            "name": key.name,
            "scopes": sorted(key.scopes),
            "secret_sha256": key.secret_sha256,
            "created_ms": key.created_ms,
            "expires_ms": key.expires_ms,
            "revoked": key.revoked,
            "rate_per_second": key.rate_per_second,
        }
    )


def key_of(key_id: str, body: str) -> ApiKey | None:
    """Return the key in the body of the ControlRecord named `key_id`, or None if the body cannot be read.

    Scopes that this version does not know are ignored; the others stay valid.
    """
    try:
        fields: Any = json.loads(body)
    except ValueError:
        return None
    match fields:
        case {"name": str(name), "scopes": list(scopes), "secret_sha256": str(secret_sha256), "created_ms": created_ms}:
            expires_ms, rate, revoked = (
                fields.get("expires_ms"),
                fields.get("rate_per_second"),
                fields.get("revoked", False),
            )
        case _:
            return None
    if not (
        _SHA256.fullmatch(secret_sha256)
        and _is_time(created_ms)
        and (expires_ms is None or _is_time(expires_ms))
        and (rate is None or _is_rate(rate))
        and isinstance(revoked, bool)
    ):
        return None
    known = frozenset(scope for scope in SCOPES if scope in scopes)
    return ApiKey(
        key_id, name, known, secret_sha256, created_ms, expires_ms, revoked, None if rate is None else float(rate)
    )


def _is_time(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_rate(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) and value > 0
