"""Upload events as AWS writes them, published straight to `s3.uploads`: uploading must cost nothing while measured."""

from __future__ import annotations

import json
import time
from urllib.parse import quote_plus


def put_notification(bucket: str, key: str, etag: str, size_bytes: int, sequencer: int) -> bytes:
    """Return one `ObjectCreated:Put` message of event version 2.1."""
    now = time.time()
    moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now * 1000) % 1000:03d}Z"
    record = {
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": moment,
        "eventName": "ObjectCreated:Put",
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "bench",
            "bucket": {"name": bucket, "arn": f"arn:aws:s3:::{bucket}"},
            "object": {
                "key": quote_plus(key, safe="/"),
                "size": size_bytes,
                "eTag": etag,
                "sequencer": f"{sequencer:018X}",
            },
        },
    }
    return json.dumps({"Records": [record]}, separators=(",", ":")).encode()
