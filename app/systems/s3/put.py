"""Uploads to an S3-compatible server, like those of users: for demo, benchmarks and tests only."""

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
    """Uploader of objects; use with `async with`. At most 16 connections; the settings bound every wait."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._closing = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> Self:
        client = s3_client(
            self._settings,
            max_pool_connections=16,
            # The ETag suffices here, and some servers store the SDK's checksum trailer as part of the body.
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
        """Delete an object. A missing object is not an error. Raises StoreUnavailable."""
        try:
            await self._client.delete_object(Bucket=bucket, Key=key)
        except aws_failures() as error:
            raise StoreUnavailable(f"cannot delete {bucket}/{key}: {error}") from error
