"""Objects of the lake in the store: list in pages, delete in batches, abort unfinished uploads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from app.domain.places import parse_place
from app.errors import StoreUnavailable
from app.settings import S3Settings
from app.systems.foreign_failures import aws_failures
from app.systems.s3.client import s3_client

_DELETE_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class LakeFile:
    """One object."""

    path: str
    size_bytes: int
    modified_ms: int


@dataclass(frozen=True, slots=True)
class HalfUpload:
    """Multipart upload that was neither completed nor aborted. Its parts cost as much as objects."""

    path: str
    upload_id: str
    begun_ms: int


class LakeStore:
    """Client for the lake's objects; use with `async with`. Every wait is bounded. Methods raise StoreUnavailable."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings
        self._closing = AsyncExitStack()
        self._client: Any = None

    async def __aenter__(self) -> Self:
        client = s3_client(self._settings)
        self._client = await self._closing.enter_async_context(client)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._closing.aclose()

    async def list(self, prefix: str) -> AsyncIterator[LakeFile]:
        """Yield the objects whose path (s3://bucket/key) begins with `prefix`, in pages of a thousand."""
        bucket, key = parse_place(prefix)
        async for page in self._pages("list_objects_v2", bucket, key):
            for row in page.get("Contents", ()):
                if row["Key"].endswith("/"):
                    # The empty object that pyarrow creates as a folder marker when it deletes a file.
                    continue
                yield LakeFile(f"s3://{bucket}/{row['Key']}", int(row["Size"]), _ms(row["LastModified"]))

    async def half_uploads(self, prefix: str) -> AsyncIterator[HalfUpload]:
        """Yield the multipart uploads below `prefix` that are open."""
        bucket, key = parse_place(prefix)
        async for page in self._pages("list_multipart_uploads", bucket, key):
            for row in page.get("Uploads", ()):
                # Some servers ignore the prefix.
                if row["Key"].startswith(key):
                    yield HalfUpload(f"s3://{bucket}/{row['Key']}", str(row["UploadId"]), _ms(row["Initiated"]))

    async def delete(self, paths: Sequence[str]) -> None:
        """Delete objects of one bucket. A missing object is not an error."""
        for start in range(0, len(paths), _DELETE_AT_ONCE):
            some = [parse_place(path) for path in paths[start : start + _DELETE_AT_ONCE]]
            bucket = some[0][0]
            try:
                answer = await self._client.delete_objects(
                    Bucket=bucket, Delete={"Objects": [{"Key": key} for _, key in some], "Quiet": True}
                )
            except aws_failures() as error:
                raise StoreUnavailable(f"cannot delete in {bucket}: {error}") from error
            refused = answer.get("Errors", ())
            if refused:
                key, code = refused[0].get("Key"), refused[0].get("Code")
                raise StoreUnavailable(f"{bucket} refuses to delete {len(refused)} objects, the first {key}: {code}")

    async def abort(self, upload: HalfUpload) -> None:
        """Abort a multipart upload and drop its parts. An upload that has ended is not an error."""
        from botocore.exceptions import ClientError

        bucket, key = parse_place(upload.path)
        try:
            await self._client.abort_multipart_upload(Bucket=bucket, Key=key, UploadId=upload.upload_id)
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchUpload":
                raise StoreUnavailable(f"cannot abort the upload of {upload.path}: {error}") from error
        except aws_failures() as error:
            raise StoreUnavailable(f"cannot abort the upload of {upload.path}: {error}") from error

    async def _pages(self, operation: str, bucket: str, prefix: str) -> AsyncIterator[Any]:
        try:
            async for page in self._client.get_paginator(operation).paginate(Bucket=bucket, Prefix=prefix):
                yield page
        except aws_failures() as error:
            raise StoreUnavailable(f"cannot list {bucket}/{prefix}: {error}") from error


def _ms(moment: Any) -> int:
    return int(moment.timestamp() * 1000)
