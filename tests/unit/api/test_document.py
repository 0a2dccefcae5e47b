"""The OpenAPI document as a whole: whoever adds a route adds what a client must know of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from app import __version__
from app.api.application import openapi_page
from app.domain.api_keys import SCOPES

DOCUMENT: dict[str, Any] = json.loads(openapi_page())
SCHEMES = ("api_key", "api_key_header", "session")
PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}


def operations() -> Iterator[tuple[str, dict[str, Any]]]:
    for path, told in DOCUMENT["paths"].items():
        for method, operation in told.items():
            yield f"{method} {path}", operation


each = pytest.mark.parametrize(("name", "operation"), [pytest.param(*one, id=one[0]) for one in operations()])


@each
def test_an_operation_says_what_it_is(name: str, operation: dict[str, Any]) -> None:
    assert operation["summary"]
    assert operation["description"]
    assert set(operation["tags"]) <= {tag["name"] for tag in DOCUMENT["tags"]}
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", operation["operationId"])


@each
def test_an_operation_below_v1_names_credentials_and_scope(name: str, operation: dict[str, Any]) -> None:
    security = operation.get("security", [])
    if " /v1/" not in name:
        assert security in ([], [{"session": []}], [{"session": []}, {}])
        return
    needed = [scope for scope in SCOPES if security == [{scheme: [scope]} for scheme in SCHEMES]]
    assert len(needed) == 1
    assert f"Needs a key with the scope `{needed[0]}`." in operation["description"]
    assert {"401", "403", "429", "503"} <= operation["responses"].keys()


@each
def test_what_is_no_success_is_a_problem(name: str, operation: dict[str, Any]) -> None:
    for status, told in operation["responses"].items():
        assert told["description"]
        if int(status) >= 400:
            assert told["content"] == PROBLEM, status


@each
def test_what_is_one_says_what_it_holds(name: str, operation: dict[str, Any]) -> None:
    for status, told in operation["responses"].items():
        if int(status) < 300 and status != "204":
            assert all(one["schema"] for one in told["content"].values()), status


def test_names_are_told_once() -> None:
    names = [operation["operationId"] for _, operation in operations()]
    assert sorted(set(names)) == sorted(names)


def test_the_document_introduces_itself() -> None:
    info = DOCUMENT["info"]
    assert (info["title"], info["version"]) == ("Sightline", __version__)
    assert info["license"]["identifier"] == "Apache-2.0"
    for limit in ("10 MiB", "1 MiB", "500 images", "30 s", "1,024 bytes"):
        assert limit in info["description"]
    assert DOCUMENT["components"]["securitySchemes"].keys() == set(SCHEMES)
    assert DOCUMENT["components"]["securitySchemes"]["api_key"]["scheme"] == "bearer"
    assert DOCUMENT["components"]["securitySchemes"]["api_key_header"]["name"] == "X-Api-Key"


def test_every_schema_that_is_named_is_there() -> None:
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(DOCUMENT)))
    assert named == DOCUMENT["components"]["schemas"].keys()
