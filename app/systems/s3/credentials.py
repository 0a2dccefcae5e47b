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
    """Finds credentials at first use and renews them in time. Belongs to one event loop.

    `find` returns what botocore calls credentials, or None where no link of the chain has any.
    """

    def __init__(self, find: Callable[[], Awaitable[Any]] = _find) -> None:
        self._find = find
        self._credentials: Any = None
        self._failing = False

    async def keys(self) -> AccessKeys:
        """Return keys that are valid at the moment; may ask a metadata service.

        Raises StoreUnavailable when there are none: such a service is away now and then, and where nothing is
        configured an operator has to come, as for keys that are refused. The first failure in a row is logged.
        """
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._credentials is None:
                self._credentials = await self._find()
            if self._credentials is not None:
                frozen = await self._credentials.get_frozen_credentials()
                self._failing = False
                return AccessKeys(frozen.access_key, frozen.secret_key, frozen.token)
            # The link that asks the instance's metadata service says None too when that does not answer.
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
            # RuntimeError: renewed keys that had expired already. LookupError, ValueError: half an answer.
            why = f"{type(error).__name__}: {error}"[:300]
        message = f"no S3 credentials: {why}"
        if not self._failing:
            logger.warning("%s; trying again until there are some", message)
        self._failing = True
        raise StoreUnavailable(message)


async def keys_of(settings: S3Settings, chain: ChainCredentials) -> AccessKeys:
    """Return the keys of the settings, where they name some, else those of the chain. Raises as `chain.keys`."""
    if settings.access_key:
        return AccessKeys(settings.access_key, settings.secret_key.reveal())
    return await chain.keys()
