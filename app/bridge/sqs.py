"""An SQS queue (aiobotocore)."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Any, Final

from app.bridge.ports import QueueMessage
from app.errors import ConfigurationError, QueueUnavailable
from app.settings import S3Settings, SqsSettings
from app.systems.foreign_failures import aws_failures

_BATCH: Final = 10  # the most that SQS hands out or deletes at once
_CONNECT_SECONDS: Final = 3
_MARGIN_SECONDS: Final = 10


class SqsQueue:
    """NotificationQueue (ports). Keys come from the S3 settings or the usual credentials chain."""

    def __init__(self, settings: SqsSettings, credentials: S3Settings) -> None:
        if not settings.queue_url:
            raise ConfigurationError("no queue: set SIGHTLINE_SQS_QUEUE_URL to the address of the notifications' queue")
        if not 0 <= settings.wait_seconds <= 20:
            raise ConfigurationError("SIGHTLINE_SQS_WAIT_SECONDS must lie between 0 and 20: SQS allows no longer poll")
        self._settings = settings
        self._credentials = credentials
        self._closing = AsyncExitStack()
        self._client: Any = None
        self._connecting = asyncio.Lock()

    async def receive(self) -> Sequence[QueueMessage]:
        """See NotificationQueue."""
        answer = await self._call(
            "receive_message",
            MaxNumberOfMessages=_BATCH,
            WaitTimeSeconds=self._settings.wait_seconds,
            VisibilityTimeout=self._settings.visibility_seconds,
        )
        found = [_message(message) for message in answer.get("Messages") or ()]
        return [message for message in found if message is not None]

    async def delete(self, messages: Sequence[QueueMessage]) -> int:
        """See NotificationQueue."""
        answer = await self._call(
            "delete_message_batch",
            Entries=[{"Id": str(number), "ReceiptHandle": message.receipt} for number, message in enumerate(messages)],
        )
        return len(answer.get("Successful", ()))

    async def close(self) -> None:
        """See NotificationQueue."""
        self._client = None
        await self._closing.aclose()

    async def _call(self, operation: str, **arguments: Any) -> Any:
        try:
            client = await self._connected()
            return await getattr(client, operation)(QueueUrl=self._settings.queue_url, **arguments)
        except aws_failures() as error:
            raise QueueUnavailable(f"the queue {self._settings.queue_url} does not answer: {error}") from error

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._client is None:
                from aiobotocore.config import AioConfig
                from aiobotocore.session import get_session

                self._client = await self._closing.enter_async_context(
                    get_session().create_client(
                        "sqs",
                        endpoint_url=self._settings.endpoint or None,
                        region_name=self._credentials.region,
                        aws_access_key_id=self._credentials.access_key or None,
                        aws_secret_access_key=self._credentials.secret_key.reveal() or None,
                        config=AioConfig(
                            connect_timeout=_CONNECT_SECONDS,
                            read_timeout=self._settings.wait_seconds + _MARGIN_SECONDS,
                            max_pool_connections=64,
                            retries={"total_max_attempts": 1},
                        ),
                    )
                )
            return self._client


def _message(message: Mapping[str, Any]) -> QueueMessage | None:
    """Return a message of an answer; None for one without a receipt, which cannot be deleted: the queue expires it."""
    identity, receipt, body = (message.get(name, "") for name in ("MessageId", "ReceiptHandle", "Body"))
    if not isinstance(receipt, str) or not receipt:
        return None
    return QueueMessage(str(identity), receipt, body if isinstance(body, str) else str(body))
