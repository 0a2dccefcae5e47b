"""The schema registry (Confluent API, as Apicurio, Confluent and Karapace serve it): register and look up ids.

Ids are pinned in schemas/ids.lock and written into every record. A registry with other ids is refused: its readers
would decode records with wrong schemas.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from app.errors import Retryable, StartupRefused
from app.systems.registry.avro import SchemaVersion, released_schemas
from app.systems.unreachable import unreachable

_HEADERS: Final = {"Content-Type": "application/vnd.schemaregistry.v1+json"}


class RegistryUnavailable(Retryable):
    """The schema registry cannot be reached or answers 5xx.

    Operator: restart the registry, then start the process again; running workers do not need it.
    """


@dataclass(frozen=True, slots=True)
class RegisteredSchema:
    """Answer of the registry for one schema under one subject."""

    subject: str
    schema: SchemaVersion
    answered_id: int


def subject_of(schema: SchemaVersion) -> str:
    """Return the subject of a schema: its full record name.

    One subject per topic is not used: Apicurio spends an id on every registration, even of a known text, so a record on
    five topics would shift the ids of all following schemas.
    """
    declared = json.loads(schema.text)
    return f"{declared['namespace']}.{declared['name']}"


class SchemaRegistry:
    """Client of a registry. `url` is the base of the Confluent API, for Apicurio `http://host:port/apis/ccompat/v7`."""

    def __init__(self, url: str, timeout_seconds: float = 15.0) -> None:
        self._url = url.rstrip("/")
        self._timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=self._timeout, headers=_HEADERS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def answers(self) -> bool:
        """Return True if the registry serves its API."""
        try:
            await self._call("GET", "/subjects")
        except RegistryUnavailable:
            return False
        return True

    async def register(self, subject: str, text: str) -> int:
        """Register `text` under `subject` and return its id. Idempotent.

        Raises RegistryUnavailable; StartupRefused when the registry finds it invalid or incompatible.
        """
        answer = await self._call("POST", f"/subjects/{subject}/versions", {"schema": text})
        return int(answer["id"])

    async def look_up(self, subject: str, text: str) -> int | None:
        """Return the id of `text` under `subject`, or None if it is not registered there."""
        answer = await self._call("POST", f"/subjects/{subject}", {"schema": text}, absent_is_none=True)
        return None if answer is None else int(answer["id"])

    async def schema_text(self, schema_id: int) -> str | None:
        """Return the schema that the registry holds under `schema_id`, or None."""
        answer = await self._call("GET", f"/schemas/ids/{schema_id}", absent_is_none=True)
        return None if answer is None else str(answer["schema"])

    async def _call(
        self, method: str, path: str, body: dict[str, str] | None = None, *, absent_is_none: bool = False
    ) -> Any:
        assert self._session is not None, "use `async with SchemaRegistry(url)`"
        try:
            async with self._session.request(method, self._url + path, json=body) as response:
                if response.status == 404 and absent_is_none:
                    return None
                if response.status >= 500 or response.status == 404:
                    raise RegistryUnavailable(f"the schema registry at {self._url} answers {response.status} to {path}")
                answer = json.loads(await response.text())
                if response.status >= 400:
                    reason = answer.get("message", answer) if isinstance(answer, dict) else answer
                    raise StartupRefused(f"the schema registry refuses {path}: {reason}")
                return answer
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise RegistryUnavailable(
                unreachable("the schema registry", self._url, "SIGHTLINE_REGISTRY_URL", error)
            ) from error


async def register_all(
    registry: SchemaRegistry, schemas: Iterable[SchemaVersion] | None = None
) -> tuple[RegisteredSchema, ...]:
    """Register every released schema that is absent, in the order of ids.lock, and return the answers.

    Because of the order, every fresh registry assigns the same ids.
    """
    registered = []
    for schema in released_schemas() if schemas is None else schemas:
        subject = subject_of(schema)
        answered = await registry.look_up(subject, schema.text)
        if answered is None:
            answered = await registry.register(subject, schema.text)
        registered.append(RegisteredSchema(subject, schema, answered))
    return tuple(registered)


def refuse_other_ids(registered: Iterable[RegisteredSchema]) -> None:
    """Compare all answers with the pinned ids. Raises StartupRefused for a difference."""
    for schema in registered:
        if schema.answered_id != schema.schema.schema_id:
            raise StartupRefused(
                f"the schema registry gives {schema.schema.record}/{schema.schema.version} the id "
                f"{schema.answered_id}, but schemas/ids.lock pins {schema.schema.schema_id}; use a registry with the "
                "pinned ids (a fresh one gets them by `./sightline stack init`)"
            )


async def check_registry(url: str, schemas: Iterable[SchemaVersion] | None = None) -> None:
    """Check that the registry has every released schema under its pinned id.

    Raises StartupRefused naming the schema and what to run; RegistryUnavailable.
    """
    async with SchemaRegistry(url) as registry:
        for schema in released_schemas() if schemas is None else schemas:
            subject = subject_of(schema)
            answered = await registry.look_up(subject, schema.text)
            if answered is None:
                raise StartupRefused(
                    f"the schema registry at {url} does not hold {schema.record}/{schema.version} under {subject}; "
                    "run `./sightline stack init`"
                )
            refuse_other_ids([RegisteredSchema(subject, schema, answered)])
