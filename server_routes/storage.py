"""Finished pictures to S3-compatible storage, and links in their place."""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any
from urllib.parse import urlsplit

log = logging.getLogger(__name__)

LINK_SECONDS = 604_800  # a week, the longest a signed link may last
_REQUIRED = ("BUCKET_ENDPOINT_URL", "BUCKET_ACCESS_KEY_ID", "BUCKET_SECRET_ACCESS_KEY")
_OPTIONAL = ("BUCKET_NAME", "BUCKET_REGION")
# S3's error codes and botocore's own -> what the operator has set wrong.
_CAUSES = {
    "NoSuchBucket": "BUCKET_NAME, and that the bucket exists (without BUCKET_NAME it is the month's, such as 11-26)",
    "ParamValidationError": "BUCKET_NAME",
    "InvalidAccessKeyId": "BUCKET_ACCESS_KEY_ID",
    "SignatureDoesNotMatch": "BUCKET_SECRET_ACCESS_KEY and BUCKET_REGION",
    "AuthorizationHeaderMalformed": "BUCKET_REGION",
    "PermanentRedirect": "BUCKET_REGION",
    "AccessDenied": "that the key may put, get and delete objects in the bucket",
}


class StorageError(RuntimeError):
    """The storage did not take a picture; the message names what to check, and neither address nor key."""


@dataclass(frozen=True)
class Upload:
    """One picture to store: its name in the bucket, its file, its media type."""

    key: str
    data: bytes = field(repr=False)
    content_type: str


class Storage:
    """One bucket, or one a month. Its methods block and may be called from several threads at a time.

    Args:
        endpoint_url: of the storage.
        access_key_id: as the storage gave it.
        secret_access_key: belongs to it.
        bucket: where all pictures go; None for the bucket that is named after the month of the upload, ``11-26``, as
            RunPod's SDK names it. It must exist.
        region: of the bucket; None where the storage has none.
        clock: tells the month.
    """

    def __init__(
        self,
        endpoint_url: str,
        access_key_id: str,
        secret_access_key: str,
        bucket: str | None = None,
        region: str | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(timezone.utc),
    ) -> None:
        self._credentials = (access_key_id, secret_access_key)
        self._endpoint_url = endpoint_url
        self._bucket = bucket
        self._region = region
        self._clock = clock
        self._lock = threading.Lock()
        self._connected: Any = None

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Storage | None:
        """The storage of the ``BUCKET_`` variables, or None if there are none. Uses no network.

        Raises:
            ValueError: a variable is missing or cannot be used, or boto3 is not installed; no value is shown.
        """
        given = {name: environ.get(name, "").strip() for name in (*_REQUIRED, *_OPTIONAL)}
        if not any(given.values()):
            return None
        missing = [name for name in _REQUIRED if not given[name]]
        if missing:
            raise ValueError(f"uploads need {' and '.join(missing)} too: set all of {', '.join(_REQUIRED)}, or none")
        _check_endpoint(given["BUCKET_ENDPOINT_URL"])
        if importlib.util.find_spec("boto3") is None:
            raise ValueError("BUCKET_ENDPOINT_URL is set, and uploads need boto3: pip install boto3")
        return cls(
            endpoint_url=given["BUCKET_ENDPOINT_URL"],
            access_key_id=given["BUCKET_ACCESS_KEY_ID"],
            secret_access_key=given["BUCKET_SECRET_ACCESS_KEY"],
            bucket=given["BUCKET_NAME"] or None,
            region=given["BUCKET_REGION"] or None,
        )

    def put(self, key: str, data: bytes, content_type: str) -> str:
        """Store one picture, trying up to three times, and return a link that opens it for a week.

        Raises:
            StorageError: the storage is not reachable or refuses.
        """
        return self._put(self._bucket_now(), Upload(key, data, content_type))

    def put_all(self, uploads: Sequence[Upload]) -> list[str]:
        """Store all pictures or none: links in the same order.

        Raises:
            StorageError: one could not be stored; those already stored have been deleted again.
        """
        bucket = self._bucket_now()
        links: list[str] = []
        tried: list[str] = []
        try:
            for upload in uploads:
                tried.append(upload.key)
                links.append(self._put(bucket, upload))
        except StorageError:
            self._delete(bucket, tried)  # the one that failed too: its answer may have been lost after it was stored
            raise
        return links

    def _bucket_now(self) -> str:
        return self._bucket or self._clock().strftime("%m-%y")

    def _put(self, bucket: str, upload: Upload) -> str:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self._client()
        place = {"Bucket": bucket, "Key": upload.key}
        try:
            client.put_object(**place, Body=upload.data, ContentType=upload.content_type)
            link: str = client.generate_presigned_url("get_object", Params=place, ExpiresIn=LINK_SECONDS)
        except (BotoCoreError, ClientError) as error:
            raise StorageError(_explain(error)) from error
        return link

    def _delete(self, bucket: str, keys: Sequence[str]) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        client = self._client()
        for key in keys:
            try:
                client.delete_object(Bucket=bucket, Key=key)
            except (BotoCoreError, ClientError) as error:
                log.warning(
                    "Flux Face: %s may be left in the storage, since deleting it failed: %s", key, _explain(error)
                )

    def _client(self) -> Any:
        """Made once: it takes a good part of a second and is safe to share between threads, unlike its making."""
        with self._lock:
            if self._connected is None:
                self._connected = self._connect()
            return self._connected

    def _connect(self) -> Any:
        import boto3
        from botocore.config import Config

        options: dict[str, Any] = {
            "signature_version": "s3v4",
            "retries": {"total_max_attempts": 3, "mode": "standard"},
            "connect_timeout": 10,
            "read_timeout": 60,
        }
        if "request_checksum_calculation" in Config.OPTION_DEFAULTS:
            # Newer boto3 adds checksums that many a storage other than Amazon's refuses.
            options["request_checksum_calculation"] = "when_required"
        access_key_id, secret_access_key = self._credentials
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self._endpoint_url,
            aws_access_key_id=access_key_id,
            aws_secret_access_key=secret_access_key,
            region_name=self._region,
            config=Config(**options),
        )


def _check_endpoint(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and not parts.username and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ValueError("BUCKET_ENDPOINT_URL must be of the form https://host or https://host:port, without user name")


def _explain(error: Exception) -> str:
    """The error's code and what to check; the error's own text may hold the address."""
    response = getattr(error, "response", None)
    if response is None:  # no answer, so it never got there
        code, check = type(error).__name__, "BUCKET_ENDPOINT_URL and the network"
    else:
        code, check = str(response.get("Error", {}).get("Code")), "the BUCKET_ variables and the storage's own log"
    return f"the storage did not take the pictures ({code}). Check {_CAUSES.get(code, check)}"
