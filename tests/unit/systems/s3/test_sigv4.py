"""Our signer against botocore's."""

from __future__ import annotations

import datetime
import hashlib

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from app.systems.s3.sigv4 import AccessKeys, Signer, encoded_path


@pytest.mark.parametrize("key", ["plain.jpg", "a b+c/ü%2F.jpg", "!'()*~$&,;=:@", "a//b"])
@pytest.mark.parametrize("token", [None, "session-token"])
@pytest.mark.parametrize("query", ["", "versionId=a%2Fb"])
def test_signatures_equal_those_of_botocore(key: str, token: str | None, query: str) -> None:
    path = encoded_path("bucket", key)
    ours = Signer("eu-central-1").headers(
        AccessKeys("AKID", "secret", token), "localhost:9000", path, query, 1_764_000_000.0
    )
    url = f"http://localhost:9000{path}" + (f"?{query}" if query else "")
    request = AWSRequest("GET", url)
    auth = S3SigV4Auth(Credentials("AKID", "secret", token), "s3", "eu-central-1")
    moment = datetime.datetime.fromtimestamp(1_764_000_000, datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    request.context["timestamp"] = moment
    request.context["payload_signing_enabled"] = True
    request.headers["X-Amz-Date"] = moment
    if token:
        request.headers["X-Amz-Security-Token"] = token
    request.headers["X-Amz-Content-SHA256"] = ours["x-amz-content-sha256"]
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert ours["authorization"].endswith(f"Signature={signature}")
    assert ours.get("x-amz-security-token") == token


@pytest.mark.parametrize("token", [None, "session-token"])
def test_bodies_and_metadata_are_signed_as_botocore_signs_them(token: str | None) -> None:
    body, told = b"a body", {"x-amz-meta-topic": "image.predictions.v1", "x-amz-meta-end": "120"}
    digest = hashlib.sha256(body).hexdigest()
    ours = Signer("eu-central-1").headers(
        AccessKeys("AKID", "secret", token), "localhost:9000", "/bucket/key", "", 1_764_000_000.0, "PUT", digest, told
    )
    request = AWSRequest("PUT", "http://localhost:9000/bucket/key", data=body)
    auth = S3SigV4Auth(Credentials("AKID", "secret", token), "s3", "eu-central-1")
    request.context["timestamp"] = ours["x-amz-date"]
    request.context["payload_signing_enabled"] = True
    for name, value in ours.items():
        if name != "authorization":
            request.headers[name] = value
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    assert ours["authorization"].endswith(f"Signature={signature}")
    assert {name: ours[name] for name in told} == told


def test_the_derived_key_follows_day_and_secret() -> None:
    signer = Signer("us-east-1")
    one = signer.headers(AccessKeys("A", "s"), "h", "/", "", 0.0)["authorization"]
    assert signer.headers(AccessKeys("A", "other"), "h", "/", "", 0.0)["authorization"] != one
    assert signer.headers(AccessKeys("A", "s"), "h", "/", "", 86_400.0)["authorization"] != one
    assert signer.headers(AccessKeys("A", "s"), "h", "/", "", 0.0)["authorization"] == one


def test_secrets_do_not_print() -> None:
    assert "hidden" not in repr(AccessKeys("AKID", "hidden"))
