"""Keys of the AWS chain: found once, renewed, and never a reason to end the process."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from botocore.exceptions import ClientError, CredentialRetrievalError, MetadataRetrievalError

from app.errors import StoreUnavailable
from app.systems.s3.credentials import ChainCredentials
from app.systems.s3.sigv4 import AccessKeys

FROZEN = SimpleNamespace(access_key="key", secret_key="secret", token="token")
KEYS = AccessKeys("key", "secret", "token")
FAILURES = [
    CredentialRetrievalError(provider="iam-role", error_msg="refresh failed"),
    MetadataRetrievalError(error_msg="no answer"),
    ClientError({"Error": {"Code": "ServiceUnavailable", "Message": ""}}, "AssumeRoleWithWebIdentity"),
    RuntimeError("Credentials were refreshed, but the refreshed credentials are still expired."),
    aiohttp.ClientConnectionError("reset"),
    TimeoutError(),
    KeyError("Expiration"),
    ValueError("no JSON"),
]


@dataclass
class Chain:
    """Finds itself; each step fails as `failures` say, in turn."""

    failures: list[Exception | None] = field(default_factory=list)
    searches: int = 0

    async def find(self) -> Any:
        self.searches += 1
        self._step()
        return self

    async def get_frozen_credentials(self) -> Any:
        self._step()
        return FROZEN

    def _step(self) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure


@pytest.mark.parametrize("failure", FAILURES)
@pytest.mark.parametrize("good_steps", [0, 1, 3])
async def test_whatever_the_chain_raises_is_waited_for(failure: Exception, good_steps: int) -> None:
    chain = Chain([*[None] * good_steps, failure])
    credentials = ChainCredentials(chain.find)
    for _ in range(max(0, good_steps - 1)):
        assert await credentials.keys() == KEYS
    with pytest.raises(StoreUnavailable, match=type(failure).__name__):
        await credentials.keys()
    assert await credentials.keys() == KEYS


async def test_found_once_and_a_row_of_failures_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    chain = Chain([OSError("away")] * 3)
    credentials = ChainCredentials(chain.find)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            with pytest.raises(StoreUnavailable):
                await credentials.keys()
        for _ in range(5):
            assert await credentials.keys() == KEYS
    assert chain.searches == 4 and len(caplog.records) == 1


async def test_none_at_all_names_the_settings() -> None:
    async def find() -> None:
        return None

    with pytest.raises(StoreUnavailable, match="SIGHTLINE_S3_ACCESS_KEY"):
        await ChainCredentials(find).keys()
