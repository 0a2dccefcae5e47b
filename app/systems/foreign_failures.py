"""Exceptions that client libraries raise on malformed input or answers. Adapters translate them; no process dies.

A list and not `Exception`, so that our own errors and a cancellation pass. It is used around calls of a library alone.
"""

from __future__ import annotations

from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

# Beside what aiohttp documents: ValueError (a header with a line feed, a port or a length that is no number, text that
# cannot be encoded or decoded), http_exceptions (a malformed answer that was not translated), EOFError (asyncio's
# IncompleteReadError), ArithmeticError (a time or a length out of range), LookupError (an answer that lacks what is
# read of it, an unknown charset), RuntimeError (a connection or a session that was closed meanwhile), AssertionError,
# AttributeError and TypeError (parsers that meet what they did not expect).
HTTP_FAILURES: Final[tuple[type[Exception], ...]] = (
    aiohttp.ClientError,
    HttpProcessingError,
    OSError,
    EOFError,
    ValueError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    AssertionError,
    AttributeError,
    TypeError,
)


def aws_failures() -> tuple[type[Exception], ...]:
    """Return what a client of aiobotocore raises; botocore is imported only here, because that takes long."""
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError, *HTTP_FAILURES)
