"""Exceptions that client libraries raise on malformed input or answers. Adapters translate them, so no process dies.

A list instead of `Exception` lets this project's errors and a cancellation pass. Use it only around library calls.
"""

from __future__ import annotations

from typing import Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

# In addition to what aiohttp documents: ValueError (a header with a line feed, a port or length that is not a number,
# text that cannot be encoded or decoded), http_exceptions (a malformed answer that was not translated), EOFError
# (asyncio's IncompleteReadError), ArithmeticError (a time or length out of range), LookupError (a missing part of an
# answer, an unknown charset), RuntimeError (a connection or session that was closed), AssertionError, AttributeError
# and TypeError (parsers that meet unexpected input).
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
    """Return the exceptions that an aiobotocore client raises. Imports botocore, which takes long."""
    from botocore.exceptions import BotoCoreError, ClientError

    return (BotoCoreError, ClientError, *HTTP_FAILURES)
