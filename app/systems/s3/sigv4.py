"""AWS Signature Version 4 for frequent GETs: about 20 us per request, where botocore takes 330.

Tests compare it with botocore's signer and with versitygw, which refuses a wrong signature.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from urllib.parse import quote

_EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()
_NONE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class AccessKeys:
    """One set of credentials; `token` is set for temporary ones."""

    access_key: str
    secret_key: str
    token: str | None = None

    def __repr__(self) -> str:
        return f"AccessKeys({self.access_key!r}, '***')"


def encoded_path(*parts: str) -> str:
    """Return the path of `parts` for URL and signature: all bytes are escaped except unreserved ones and /."""
    return "/" + "/".join(quote(part, safe="/-._~") for part in parts)


class Signer:
    """Signer for one region and service. Not tied to an event loop. Caches the derived key of one day."""

    def __init__(self, region: str, service: str = "s3") -> None:
        self._region = region
        self._service = service
        self._derived: tuple[str, str, bytes] | None = None

    def headers(
        self,
        keys: AccessKeys,
        host: str,
        path: str,
        query: str,
        now_seconds: float,
        method: str = "GET",
        body_sha256: str = _EMPTY_SHA256,
        metadata: Mapping[str, str] = _NONE,
    ) -> dict[str, str]:
        """Return the headers that make the request valid for some minutes. `path` and `query` are already escaped.

        The query's parameters must be sorted by name. `metadata` are headers of the object, whose names begin with
        `x-amz-meta-` in lower case; they are signed too and included in the result.
        """
        moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_seconds))
        day = moment[:8]
        headers = {"x-amz-content-sha256": body_sha256, "x-amz-date": moment}
        if metadata:
            headers.update(sorted(metadata.items()))
        if keys.token:
            headers["x-amz-security-token"] = keys.token
        signed = ";".join(("host", *headers))
        lines = "".join(f"{name}:{value}\n" for name, value in (("host", host), *headers.items()))
        request = f"{method}\n{path}\n{query}\n{lines}\n{signed}\n{body_sha256}"
        scope = f"{day}/{self._region}/{self._service}/aws4_request"
        text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.new(self._key(keys, day), text.encode(), hashlib.sha256).hexdigest()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )
        return headers

    def _key(self, keys: AccessKeys, day: str) -> bytes:
        if self._derived is not None and self._derived[:2] == (day, keys.secret_key):
            return self._derived[2]
        derived = f"AWS4{keys.secret_key}".encode()
        for part in (day, self._region, self._service, "aws4_request"):
            derived = hmac.new(derived, part.encode(), hashlib.sha256).digest()
        self._derived = (day, keys.secret_key, derived)
        return derived
