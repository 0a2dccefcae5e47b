"""Publishing outside of a lane: idempotent, or in transactions."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self

from app.errors import BrokerUnavailable, Fenced
from app.ports.publishing import Message
from app.settings import KafkaSettings
from app.systems.kafka.stop import stop_client
from app.systems.unreachable import kafka_unreachable
from schemas.records import Position

# An idempotent producer of aiokafka repeats a batch without end; after this time the caller gets an error.
_DELIVERY_SECONDS: Final = 30.0
_REQUEST_TIMEOUT_MS: Final = 20_000
# Records of 1 MiB and their frame; the broker has the last word (message.max.bytes).
_MAX_REQUEST_BYTES: Final = 2 * 1024 * 1024


class KafkaProducer:
    """Producer (app.ports.publishing) on an idempotent aiokafka producer with acks=all; connects at the first use.

    After BrokerUnavailable the records may yet arrive; the next call begins with a new connection.
    """

    def __init__(self, settings: KafkaSettings, client_id: str = "sightline") -> None:
        self._settings = settings
        self._client_id = client_id
        self._producer: Any = None
        self._connecting = asyncio.Lock()

    async def send_and_wait(self, topic: str, key: bytes | None, value: bytes) -> Position:
        """See Producer."""
        metadata = (await self._send([(topic, key, value)]))[0]
        return Position(topic, metadata.partition, metadata.offset)

    async def send_batch(self, records: Sequence[Message]) -> None:
        """See Producer."""
        await self._send(records)

    async def close(self) -> None:
        """See Producer. Returns within 10 s also when the broker is away."""
        producer, self._producer = self._producer, None
        await stop_client(producer)

    async def _send(self, records: Sequence[Message]) -> list[Any]:
        from aiokafka.errors import KafkaError

        futures: list[Any] = []
        producer: Any = None
        try:
            async with asyncio.timeout(_DELIVERY_SECONDS):
                producer = await self._connected()
                for topic, key, value in records:
                    futures.append(await producer.send(self._settings.prefix + topic, value, key))
                return list(await asyncio.gather(*futures))
        except (KafkaError, OSError, TimeoutError) as error:
            for future in futures:
                future.cancel()
            if producer is not None and producer is self._producer:
                self._producer = None
                await stop_client(producer)
            raise BrokerUnavailable(kafka_unreachable(self._settings.bootstrap, error)) from error

    async def _connected(self) -> Any:
        async with self._connecting:
            if self._producer is None:
                producer = _producer(self._settings, self._client_id, linger_ms=5)
                try:
                    await producer.start()
                except BaseException:
                    await stop_client(producer)
                    raise
                self._producer = producer
            return self._producer


class KafkaTransactionalProducer:
    """See TransactionalProducer (app.ports.publishing). Entering it (`async with`) fences older ones of its id."""

    def __init__(self, settings: KafkaSettings, transactional_id: str) -> None:
        self._settings = settings
        self._transactional_id = settings.prefix + transactional_id
        self._producer: Any = None

    async def __aenter__(self) -> Self:
        from aiokafka.errors import KafkaError

        producer = _producer(
            self._settings,
            self._transactional_id,
            transactional_id=self._transactional_id,
            transaction_timeout_ms=int(self._settings.transaction_timeout_seconds * 1000),
        )
        try:
            async with asyncio.timeout(_DELIVERY_SECONDS):
                await producer.start()
        except (KafkaError, OSError, TimeoutError) as error:
            await stop_client(producer)
            raise BrokerUnavailable(kafka_unreachable(self._settings.bootstrap, error)) from error
        self._producer = producer
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        producer, self._producer = self._producer, None
        await stop_client(producer)

    async def publish(self, records: Sequence[Message]) -> None:
        """See TransactionalProducer."""
        from aiokafka.errors import KafkaError, ProducerFenced

        try:
            async with asyncio.timeout(_DELIVERY_SECONDS), self._producer.transaction():
                futures = [
                    await self._producer.send(self._settings.prefix + topic, value, key)
                    for topic, key, value in records
                ]
                await asyncio.gather(*futures)
        except ProducerFenced as error:
            raise Fenced(f"another process publishes as {self._transactional_id}; this one ends") from error
        except (KafkaError, OSError, TimeoutError) as error:
            raise BrokerUnavailable(kafka_unreachable(self._settings.bootstrap, error)) from error


def _producer(settings: KafkaSettings, client_id: str, **options: Any) -> Any:
    from aiokafka import AIOKafkaProducer

    return AIOKafkaProducer(
        bootstrap_servers=settings.bootstrap,
        client_id=client_id,
        enable_idempotence=True,
        acks="all",
        request_timeout_ms=_REQUEST_TIMEOUT_MS,
        max_request_size=_MAX_REQUEST_BYTES,
        max_batch_size=128 * 1024,
        **options,
    )
