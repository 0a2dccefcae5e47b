"""Access keys from the usual AWS chain: environment, files, web identity, container, instance."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from app.errors import StoreUnavailable
from app.settings import S3Settings
from app.systems.s3.sigv4 import AccessKeys

logger = logging.getLogger(__name__)


async def _find() -> Any:
    from aiobotocore.session import get_session

    return await get_session().get_credentials()


class ChainCredentials:
    """Credentials of the AWS chain, looked up at first use and renewed in time. Belongs to one event loop.

    `find` returns botocore's credentials, or None if no link of the chain has any.
    """

    def __init__(self, find: Callable[[], Awaitable[Any]] = _find) -> None:
        self._find = find
        self._credentials: Any = None
        self._failing = False

    async def keys(self) -> AccessKeys:
        """Return keys that are valid now. May ask a metadata service.

        Raises StoreUnavailable without keys: a metadata service may have an outage, and missing configuration needs an
        operator, as refused keys do. The first of consecutive failures is logged.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._credentials is None:
                self._credentials = await self._find()
            if self._credentials is not None:
                frozen = await self._credentials.get_frozen_credentials()
                self._failing = False
                return AccessKeys(frozen.access_key, frozen.secret_key, frozen.token)
            # The link for the instance's metadata service returns None also if that service does not answer.
            why = "set SIGHTLINE_S3_ACCESS_KEY and SIGHTLINE_S3_SECRET_KEY, or use the AWS chain"
        except (
            BotoCoreError,
            ClientError,
            aiohttp.ClientError,
            OSError,
            RuntimeError,
            LookupError,
            ValueError,
        ) as error:
            # RuntimeError: renewed keys that have already expired. LookupError, ValueError: an incomplete answer.
            why = f"{type(error).__name__}: {error}"[:300]
        message = f"no S3 credentials: {why}"
        if not self._failing:
            logger.warning("%s; trying again until there are credentials", message)
        self._failing = True
        raise StoreUnavailable(message)


async def keys_of(settings: S3Settings, chain: ChainCredentials) -> AccessKeys:
    """Return the keys of the settings if set, else those of the chain. Raises as `chain.keys`."""
    if settings.access_key:
        return AccessKeys(settings.access_key, settings.secret_key.reveal())
    return await chain.keys()
