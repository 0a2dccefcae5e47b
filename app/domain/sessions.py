"""Console sessions: the browser keeps a random id, the server stores only its digest. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConsoleSession:
    """Session of a moderator: the API key that signed in, and the expiry."""

    key_id: str
    expires_ms: int


def session_digest(session_id: str) -> str:
    """Return the key under which a session is stored. A reader of the store cannot use it to take over the session."""
    return hashlib.sha256(session_id.encode()).hexdigest()
