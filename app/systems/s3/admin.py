"""Set-up of buckets, queues and bucket notifications on a local object store. On AWS an operator does this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from app.errors import StartupRefused


@dataclass(frozen=True, slots=True)
class StoreAccess:
    """Address and keys of an S3-compatible server, and of its SQS if it has one."""

    endpoint: str
    access_key: str
    secret_key: str
    region: str = "us-east-1"


def _client(service: str, access: StoreAccess) -> Any:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import get_session

    return get_session().create_client(
        service,
        endpoint_url=access.endpoint,
        region_name=access.region,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        config=AioConfig(
            signature_version="s3v4" if service == "s3" else None,
            s3={"addressing_style": "path"},
            connect_timeout=3,
            read_timeout=10,
            retries={"max_attempts": 3},
        ),
    )


async def create_bucket(access: StoreAccess, bucket: str) -> None:
    """Create `bucket` unless it exists. Raises StartupRefused when the server refuses."""
    from botocore.exceptions import BotoCoreError, ClientError

    async with _client("s3", access) as s3:
        try:
            await s3.create_bucket(Bucket=bucket)
        except ClientError as error:
            if error.response["Error"]["Code"] not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                raise StartupRefused(f"cannot create bucket {bucket}: {error}") from error
        except (BotoCoreError, OSError) as error:
            raise StartupRefused(f"S3 at {access.endpoint} does not answer: {error}") from error


async def notify_queue(access: StoreAccess, bucket: str, queue: str) -> str:
    """Create `bucket` and `queue`, send the bucket's creations and removals there, and return the queue's address."""
    from botocore.exceptions import BotoCoreError, ClientError

    await create_bucket(access, bucket)
    try:
        async with _client("sqs", access) as sqs, _client("s3", access) as s3:
            url = str((await sqs.create_queue(QueueName=queue))["QueueUrl"])
            attributes = await sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])
            await s3.put_bucket_notification_configuration(
                Bucket=bucket,
                NotificationConfiguration={
                    "QueueConfigurations": [
                        {
                            "Id": "sightline",
                            "QueueArn": attributes["Attributes"]["QueueArn"],
                            "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
                        }
                    ]
                },
            )
            return url
    except (TimeoutError, BotoCoreError, ClientError, OSError) as error:
        raise StartupRefused(f"cannot send the notifications of bucket {bucket} to queue {queue}: {error}") from error
