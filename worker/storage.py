"""Uploads a result's images to S3-compatible storage and puts links in their place."""

from __future__ import annotations

import base64
import datetime
import mimetypes
from typing import Any

from .results import inline_images
from .settings import Settings

LINK_SECONDS = 604_800  # a week, the longest a signed link may last


class StorageError(RuntimeError):
    """The storage did not take the images; the message says why."""


def upload_images(output: dict[str, Any], job_id: str, settings: Settings) -> None:
    """Replace the data of every image of ``output`` by a signed link (``type`` becomes ``s3_url``). Blocks.

    Raises:
        StorageError: the storage is not reachable or refuses.
    """
    import boto3
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError

    client = boto3.client(
        "s3",
        endpoint_url=settings.bucket_endpoint_url,
        aws_access_key_id=settings.bucket_access_key_id,
        aws_secret_access_key=settings.bucket_secret_access_key,
        config=Config(signature_version="s3v4", retries={"max_attempts": 3, "mode": "standard"}, connect_timeout=10),
    )
    bucket = settings.bucket_name or datetime.datetime.now(datetime.timezone.utc).strftime("%m-%y")
    try:
        for image in inline_images(output):
            key = f"{job_id}/{image['filename']}"
            client.put_object(
                Bucket=bucket,
                Key=key,
                Body=base64.b64decode(image["data"]),
                ContentType=mimetypes.guess_type(image["filename"])[0] or "application/octet-stream",
            )
            link = client.generate_presigned_url(
                "get_object", Params={"Bucket": bucket, "Key": key}, ExpiresIn=LINK_SECONDS
            )
            image.update(type="s3_url", data=link)
    except (BotoCoreError, ClientError) as error:
        raise StorageError(
            f"[upload_failed] {settings.bucket_endpoint_url} did not take the images ({error}). "
            "Check the BUCKET_ variables and that the bucket exists"
        ) from error
