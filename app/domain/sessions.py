"""Console sessions: a random id that the browser keeps, and its digest, which is all that we keep. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConsoleSession:
    """Who signed in, by his API key, and until when it holds."""

    key_id: str
    expires_ms: int


def session_digest(session_id: str) -> str:
    """Return under what a session is kept: who reads the store cannot go on with the session."""
    return hashlib.sha256(session_id.encode()).hexdigest()
