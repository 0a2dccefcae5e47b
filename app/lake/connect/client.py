"""Client of Kafka Connect's REST interface: apply connectors, read their state, restart failed tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import aiohttp

from app.errors import ConfigurationError, LakeUnavailable

_REQUEST_SECONDS: Final = 30.0
# Answers of a worker during a rebalance of its group: try again.
_BUSY: Final = (409, 503)
FAILED: Final = "FAILED"


@dataclass(frozen=True, slots=True)
class TaskState:
    """Task of a connector (`number` -1: the connector itself) and the first line of its failure."""

    number: int
    state: str
    worker: str
    why: str


@dataclass(frozen=True, slots=True)
class ConnectorState:
    """State of one connector."""

    name: str
    tasks: tuple[TaskState, ...]

    @property
    def failed(self) -> tuple[TaskState, ...]:
        """Tasks that failed and must be restarted."""
        return tuple(task for task in self.tasks if task.state == FAILED)

    @property
    def running(self) -> bool:
        """True if the connector and at least one task run, and none has failed."""
        numbers = {task.number for task in self.tasks if task.state == "RUNNING"}
        return not self.failed and -1 in numbers and len(numbers) > 1


class ConnectClient:
    """Session with Connect at `url`; use with `async with`."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_REQUEST_SECONDS))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def names(self) -> tuple[str, ...]:
        """Return the names of all connectors. Raises LakeUnavailable."""
        return tuple(sorted(await self._ask("GET", "/connectors")))

    async def answers(self) -> bool:
        """Return True if a worker answers that has joined its group."""
        try:
            await self.names()
        except LakeUnavailable:
            return False
        return True

    async def apply(self, name: str, config: Mapping[str, str]) -> bool:
        """Create the connector or change its configuration. Return True if anything changed.

        Raises ConfigurationError with Connect's message, LakeUnavailable.
        """
        if name in await self.names() and await self._ask("GET", f"/connectors/{name}/config") == dict(config):
            return False
        await self._ask("PUT", f"/connectors/{name}/config", dict(config))
        return True

    async def delete(self, name: str) -> None:
        """Remove a connector; its offsets stay. Raises LakeUnavailable."""
        await self._ask("DELETE", f"/connectors/{name}")

    async def state(self, name: str) -> ConnectorState | None:
        """Return the state of a connector, None if it does not exist. Raises LakeUnavailable."""
        status = await self._ask("GET", f"/connectors/{name}/status", absent=None)
        if status is None:
            return None
        parts = [(-1, status["connector"]), *((task["id"], task) for task in status["tasks"])]
        return ConnectorState(
            name,
            tuple(
                TaskState(number, part["state"], part.get("worker_id", ""), _first_line(part.get("trace") or ""))
                for number, part in parts
            ),
        )

    async def restart_failed(self, name: str) -> None:
        """Restart the failed tasks of a connector. Raises LakeUnavailable."""
        await self._ask("POST", f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true")

    async def _ask(self, method: str, path: str, body: Any = None, absent: Any = ConfigurationError) -> Any:
        assert self._session is not None, "enter the client first"
        try:
            # Connect refuses a POST without this type, even one without a body.
            headers = {"Content-Type": "application/json"}
            async with self._session.request(method, self._url + path, json=body, headers=headers) as answer:
                document = await answer.json(content_type=None) if answer.content_length != 0 else None
                if answer.status == 404 and absent is not ConfigurationError:
                    return absent
                if answer.status in _BUSY:
                    raise LakeUnavailable(f"Kafka Connect at {self._url} is busy: {_message(document)}")
                if answer.status >= 500:
                    raise LakeUnavailable(f"Kafka Connect at {self._url} answers {answer.status}: {_message(document)}")
                if answer.status >= 400:
                    raise ConfigurationError(f"Kafka Connect refuses {method} {path}: {_message(document)}")
                return document
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise LakeUnavailable(f"Kafka Connect at {self._url} does not answer ({type(error).__name__})") from error


def _message(answer: Any) -> str:
    return str(answer.get("message", answer))[:500] if isinstance(answer, dict) else str(answer)[:500]


def _first_line(trace: str) -> str:
    """Return the innermost cause of a Java stack trace, else its first line."""
    causes = [line for line in trace.splitlines() if line.startswith("Caused by: ")]
    return (causes[-1].removeprefix("Caused by: ") if causes else trace.split("\n", 1)[0])[:300]
