"""The query service against its own OpenAPI document: every operation, by valid and by broken requests.

Kafka, Redis, object store and model are real, and so is HTTP.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from app.api.application import openapi_page
from app.settings import load_settings
from app.stack.local import LocalStack
from app.systems.s3.admin import create_bucket
from tests.support.api.on_real_servers import RealApi, real_api
from tests.support.api.records import Known, fill
from tests.support.eventually import eventually
from tests.support.fuzz import Findings, fuzz
from tests.support.stack import TestNames
from tests.support.whole_pipeline import nsfw_settings

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
DOCUMENT: dict[str, Any] = json.loads(openapi_page())
EXAMPLES = 25
NO_SUCCESS = {"GET /console/session", "POST /console/session", "GET /v1/stream/flagged"}


@pytest_asyncio.fixture
async def api(stack: LocalStack, topics: str, names: TestNames, tmp_path: Path) -> AsyncIterator[RealApi]:
    environment = {
        **stack.environment,
        **nsfw_settings(tmp_path),
        "SIGHTLINE_KAFKA_PREFIX": topics,
        "SIGHTLINE_REDIS_PREFIX": topics,
        "SIGHTLINE_API_MAX_WAIT_SECONDS": "0.2",
        "SIGHTLINE_API_EXPLAIN_SECONDS": "2",
        "SIGHTLINE_API_ACCESS_LOG": "none",
    }
    await create_bucket(stack.s3, names.bucket)
    async with real_api(load_settings(environment)) as running:
        yield running


def words(known: Known) -> dict[str, Any]:
    """The configuration that mixes what the index knows into what is made up."""
    lists = {
        "buckets": [known.bucket],
        "keys": known.keys,
        "digests": known.digests,
        "flags": known.flag_ids,
    }
    places = {
        "path.bucket": ("buckets", 0.8),
        "path.key": ("keys", 0.8),
        "path.sha256": ("digests", 0.7),
        "body.bucket": ("buckets", 0.8),
        "body.key": ("keys", 0.8),
        "body.images[*].bucket": ("buckets", 0.8),
        "body.images[*].key": ("keys", 0.8),
        "body.flag_id": ("flags", 0.2),
    }
    return {
        "dictionaries": {name: {"values": list(values)} for name, values in lists.items()},
        "parameters": {name: {"dictionary": one, "probability": share} for name, (one, share) in places.items()},
    }


def configuration(known: Known) -> dict[str, Any]:
    decent = ["2xx", "3xx", "4xx"]
    accepted = ["2xx", "3xx", 401, 403, 404, 409, 429]
    # A key of 1,024 letters may have more bytes; nothing in a schema can say so.
    key = [400, 422]
    return {
        **words(known),
        "request-timeout": 20,
        "generation": {
            "max-examples": EXAMPLES,
            "mode": "all",
            "no-shrink": True,
            "database": "none",
            # Whatever else a client sends in headers and query is no business of ours.
            "allow-extra-parameters": False,
        },
        "phases": {"stateful": {"enabled": False}},
        "checks": {
            "not_a_server_error": {"expected-statuses": decent},
            "positive_data_acceptance": {"expected-statuses": [*accepted, *key]},
        },
        "operations": [
            # It never ends; it has a test of its own.
            {"include-operation-id": "follow_flagged", "enabled": False},
            # Reads all topics each time.
            {"include-operation-id": "explain_image", "generation": {"max-examples": 5}},
            {
                "include-operation-id": "score_picture",
                "checks": {
                    "not_a_server_error": {"expected-statuses": [*decent, 504]},
                    "positive_data_acceptance": {"expected-statuses": [*accepted, *key, 504]},
                },
            },
            # The same decision asked for twice at once.
            {
                "include-operation-id": "make_decision",
                "checks": {"not_a_server_error": {"expected-statuses": [*decent, 503]}},
            },
        ],
    }


async def test_every_operation_is_as_the_document_has_it(api: RealApi, names: TestNames) -> None:
    known = await fill(api.parts, names.bucket)
    await eventually(lambda: api.parts.pictures is not None and api.parts.pictures.scoring.state == "ready", 60)
    shown = await check_known(api, known)
    found = await asyncio.to_thread(fuzz, DOCUMENT, api.url, api.headers, configuration(known))
    print_summary(found)
    assert not found.wrong, found.report()
    # Nobody has a session; that an answer begins a stream, and what its first block holds, is told below.
    asked = {f"{method.upper()} {path}" for path, told in DOCUMENT["paths"].items() for method in told}
    unreached = {one for one in asked - NO_SUCCESS - shown if not any(status < 300 for status in found.statuses(one))}
    assert not unreached
    await check_stream(api)


async def check_known(api: RealApi, known: Known) -> set[str]:
    """Every image is found under its exact name, and shown where its object is there.

    Returns the operations that answered with success here. Made-up requests reach them by chance only: few of the known
    images have an object, and no made-up upload is one of theirs.
    """
    image = "/v1/images/{bucket}/{key}"
    async with httpx.AsyncClient(base_url=api.url, headers=api.headers, timeout=30) as client:
        for key in known.keys:
            if key == "removed.jpg":
                continue
            place = f"/v1/images/{known.bucket}/{quote(key, safe='')}"
            answer = await client.get(place)
            assert answer.status_code == 200, (key, answer.text)
            assert (answer.json()["bucket"], answer.json()["key"]) == (known.bucket, key)
            answer = await client.get(f"{place}/history")
            assert answer.status_code == 200, (key, answer.text)
        for key in known.pictures:
            place = f"/v1/images/{known.bucket}/{quote(key, safe='')}"
            answer = await client.get(f"{place}/preview?size=64")
            assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg"), answer.text
        answer = await client.get(f"{place}/explain")
        assert answer.status_code == 200, answer.text
    return {f"GET {image}", f"GET {image}/history", f"GET {image}/preview", f"GET {image}/explain"}


async def check_stream(api: RealApi) -> None:
    """A stream is an answer that the document knows, whatever is asked of it; none is waited for."""
    responses = DOCUMENT["paths"]["/v1/stream/flagged"]["get"]["responses"]
    seen = set()
    async with httpx.AsyncClient(base_url=api.url, headers=api.headers, timeout=30) as client:
        for query in (
            "",
            "?actions=block",
            "?actions=block,notify",
            "?actions=",
            "?actions=no",
            "?actions=%00",
            "?x=1",
        ):
            for last in (b"", b"nonsense", b"\xff\xfe", b"9" * 5000, b"0:1,1:2", b"-1"):
                headers = {b"Last-Event-ID": last} if last else {}
                async with client.stream("GET", f"/v1/stream/flagged{query}", headers=headers) as answer:
                    seen.add(answer.status_code)
                    kind = answer.headers["content-type"].partition(";")[0]
                    assert [kind] == [*responses[str(answer.status_code)]["content"]], (query, last)
    assert seen == {200, 400, 422}


def print_summary(found: Findings) -> None:
    print(f"{found.requests} requests in {found.seconds:.0f} s; {found.phases}")
    for operation in sorted({name for name, _ in found.answers}):
        print(f"    {operation}: {dict(sorted(found.statuses(operation).items()))} {found.took[operation]:.1f} s")
