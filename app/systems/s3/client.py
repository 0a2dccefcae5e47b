"""The aiobotocore client of the settings' object store, for listings and uploads. Frequent GETs use requests.py."""

from __future__ import annotations

from typing import Any

from app.settings import S3Settings


def s3_client(settings: S3Settings, **more: Any) -> Any:
    """Return an async context manager of an S3 client. `more` are options of its AioConfig. Every wait is bounded."""
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    return get_session().create_client(
        "s3",
        endpoint_url=settings.endpoint or None,
        region_name=settings.region,
        aws_access_key_id=settings.access_key or None,
        aws_secret_access_key=settings.secret_key.reveal() or None,
        config=AioConfig(
            signature_version="s3v4",
            s3={"addressing_style": "path"} if settings.endpoint else {},
            connect_timeout=settings.connect_timeout_seconds,
            read_timeout=settings.read_timeout_seconds,
            retries={"max_attempts": settings.attempts, "mode": "standard"},
            **more,
        ),
    )
