"""Signed requests to the object store with aiohttp: addresses, regions, credentials. Does not interpret answers."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from app.domain.object_names import may_be_host
from app.settings import S3Settings
from app.systems.s3.credentials import ChainCredentials, keys_of
from app.systems.s3.sigv4 import Signer, encoded_path

# It becomes part of a host name.
_REGION = re.compile(r"[a-z0-9-]{1,40}")


class SignedRequests:
    """Sender of signed requests. Belongs to the event loop that first uses it. The settings bound every wait."""

    def __init__(self, settings: S3Settings, chain: ChainCredentials) -> None:
        self._settings = settings
        self._chain = chain
        self._session: aiohttp.ClientSession | None = None
        self._signers: dict[str, Signer] = {}
        self._regions: dict[str, str] = {}

    async def send(
        self,
        method: str,
        bucket: str,
        key: str,
        query: str,
        headers: Mapping[str, str],
        *,
        body: bytes = b"",
        metadata: Mapping[str, str] | None = None,
    ) -> aiohttp.ClientResponse:
        """Send one request and return the answer's head. The caller reads and releases it.

        `query` is escaped and sorted by name. `metadata` becomes headers of the object. Raises HTTP_FAILURES, and
        StoreUnavailable without credentials.
        """
        origin, path = self._address(bucket, key)
        region = self._region(bucket)
        signer = self._signers.get(region)
        if signer is None:
            signer = self._signers[region] = Signer(region)
        own = {f"x-amz-meta-{name}": value for name, value in (metadata or {}).items()}
        keys = await keys_of(self._settings, self._chain)
        signed: Mapping[str, str] = own
        if keys and (body or own):
            digest = hashlib.sha256(body).hexdigest()
            signed = signer.headers(keys, urlsplit(origin).netloc, path, query, time.time(), method, digest, own)
        elif keys:
            signed = signer.headers(keys, urlsplit(origin).netloc, path, query, time.time(), method)
        url = _url(origin, path, query)
        return await self._open().request(
            method, url, headers={**headers, **signed}, data=body or None, allow_redirects=False
        )

    def url_of(self, bucket: str, key: str) -> URL:
        """Return the address of an object, or of its bucket for an empty key."""
        return _url(*self._address(bucket, key), "")

    def lies_in(self, bucket: str, region: str) -> bool:
        """Store the region of `bucket` for the next request. Return True if it is new."""
        if region == self._region(bucket) or not _REGION.fullmatch(region):
            return False
        self._regions[bucket] = region
        return True

    async def close(self) -> None:
        """Release connections; a later call opens them again."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _region(self, bucket: str) -> str:
        return self._regions.get(bucket, self._settings.region)

    def _address(self, bucket: str, key: str) -> tuple[str, str]:
        if self._settings.endpoint:
            return self._settings.endpoint.rstrip("/"), encoded_path(*([bucket, key] if key else [bucket]))
        domain = f"s3.{self._region(bucket)}.amazonaws.com"
        # Other names would break the certificate of the virtual host (a dot) or reach another bucket (upper case).
        if not may_be_host(bucket):
            return f"https://{domain}", encoded_path(*([bucket, key] if key else [bucket]))
        return f"https://{bucket}.{domain}", encoded_path(key)

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(
                total=None,  # asyncio.timeout around all attempts of one object
                sock_connect=self._settings.connect_timeout_seconds,
                sock_read=self._settings.read_timeout_seconds,
            )
            # Probes must not wait behind the fetches that they judge.
            connector = aiohttp.TCPConnector(limit=self._settings.concurrency + 4, keepalive_timeout=20)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=timeout,
                # Objects with Content-Encoding are returned as stored; their sha256 belongs to those bytes.
                auto_decompress=False,
                skip_auto_headers=("Accept", "Accept-Encoding", "User-Agent"),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def _url(origin: str, path: str, query: str) -> URL:
    return URL(f"{origin}{path}?{query}" if query else f"{origin}{path}", encoded=True)
