"""Uploads to an S3-compatible server, as users make them: for demo, benchmarks and tests, never for a task."""

from __future__ import annotations

from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

from app.errors import StoreUnavailable
from app.settings import S3Settings
from app.systems.foreign_failures import aws_failures
from app.systems.s3.client import s3_client

_TYPES: Final = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".tif": "image/tiff",
    ".svg": "image/svg+xml",
}


class Uploader:
    """PUTs objects; use as `async with`. At most 16 connections; every wait is bounded by the settings."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._closing = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> Self:
        client = s3_client(
            self._settings,
            max_pool_connections=16,
            # The ETag tells enough here, and some servers store the SDK's own checksum trailer as body.
            request_checksum_calculation="when_required",
        )
        self._client = await self._closing.enter_async_context(client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    async def put(self, bucket: str, key: str, body: bytes) -> str:
        """Store `body` and return its ETag without quotes. Raises StoreUnavailable."""
        kind = _TYPES.get(f".{key.rpartition('.')[2].lower()}", "application/octet-stream")
        try:
            answer = await self._client.put_object(Bucket=bucket, Key=key, Body=body, ContentType=kind)
            return str(answer["ETag"]).strip('"')
        except aws_failures() as error:
            raise StoreUnavailable(f"cannot store {bucket}/{key}: {error}") from error

    async def delete(self, bucket: str, key: str) -> None:
        """Delete an object; one that does not exist is no error. Raises StoreUnavailable."""
        try:
            await self._client.delete_object(Bucket=bucket, Key=key)
        except aws_failures() as error:
            raise StoreUnavailable(f"cannot delete {bucket}/{key}: {error}") from error
