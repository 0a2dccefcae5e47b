"""Times as the command line takes them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from app.errors import ConfigurationError

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)([smhd])")


def duration_seconds(text: str, option: str) -> float:
    """Return `90s`, `10m`, `2h` or `1d` in seconds. Raises ConfigurationError."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise ConfigurationError(f"{option} {text!r}: give a number with a unit, such as 90s, 10m, 2h or 1d")
    return float(match[1]) * _UNITS[match[2]]


def moment_ms(text: str, option: str, now_ms: int) -> int:
    """Return an ISO 8601 time (UTC unless it says otherwise) or a duration before now as Unix milliseconds."""
    if _DURATION.fullmatch(text.strip()):
        return now_ms - int(duration_seconds(text, option) * 1000)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigurationError(
            f"{option} {text!r}: give a time such as 2026-11-23T09:15 (UTC), or how long ago such as 2h"
        ) from error
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
