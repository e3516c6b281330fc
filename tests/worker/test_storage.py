"""Uploading results to S3-compatible storage: a real server, real links."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest
from PIL import Image

from flux_face.tests.worker.conftest import Production
from flux_face.tests.worker.process import Worker, free_port, trouble
from flux_face.tests.worker.standin import Platform

pytest.importorskip("moto", reason="the S3-compatible server of these tests")


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    url = f"http://127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", url.rpartition(":")[2]]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            client = boto3.client(
                "s3",
                endpoint_url=url,
                aws_access_key_id="key",
                aws_secret_access_key="secret",
                region_name="us-east-1",
            )
            _create_bucket(client, server)
            yield url
        finally:
            server.terminate()


def _create_bucket(client: object, server: subprocess.Popen[bytes]) -> None:
    from botocore.exceptions import EndpointConnectionError

    deadline = time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket="portraits")  # type: ignore[attr-defined]
        except EndpointConnectionError:
            assert server.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        else:
            return


def _environment(url: str, bucket: str = "portraits") -> dict[str, str]:
    return {
        "BUCKET_ENDPOINT_URL": url,
        "BUCKET_ACCESS_KEY_ID": "key",
        "BUCKET_SECRET_ACCESS_KEY": "secret",
        "BUCKET_NAME": bucket,
    }


def test_images_are_uploaded_and_returned_as_links(
    production: Production, platform: Platform, storage: str, tmp_path: Path
) -> None:
    env = {**platform.environment(), **_environment(storage), "FLUX_FACE_COMFYUI_URL": production.comfy_url}
    with Worker(tmp_path, env=env):
        result = platform.finish(platform.submit(trouble(batch_size=2, include_generated=True)))
    output = result["output"]
    for image in (*output["images"], *output["generated"]):
        assert image["type"] == "s3_url"
        with urllib.request.urlopen(image["data"], timeout=30) as answer:
            assert answer.headers["Content-Type"] == "image/png"
            assert Image.open(io.BytesIO(answer.read())).size == (64, 64)
    assert len(json.dumps(result)) < 10_000


def test_a_storage_that_refuses_is_an_error_not_a_lost_result(
    production: Production, platform: Platform, storage: str, tmp_path: Path
) -> None:
    env = {
        **platform.environment(),
        **_environment(storage, bucket="none-such"),
        "FLUX_FACE_COMFYUI_URL": production.comfy_url,
    }
    with Worker(tmp_path, env=env):
        result = platform.finish(platform.submit(trouble()))
    assert result["error"].startswith("[upload_failed] ")
    assert "NoSuchBucket" in result["error"]
    assert "secret" not in result["error"]
