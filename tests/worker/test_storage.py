"""Results to S3-compatible storage: a real server, real links, the bucket of the month."""

from __future__ import annotations

import base64
import io
import json
import urllib.request
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import boto3
import pytest
from PIL import Image

from flux_face.tests.worker.conftest import Production
from flux_face.tests.worker.process import Worker, make_base
from flux_face.tests.worker.standin import Platform

moto_server = pytest.importorskip("moto.server", reason="the S3-compatible server of these tests")


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def with_bucket(storage: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """A worker with everything but the bucket's name."""
    directory = tmp_path_factory.mktemp("bucket")
    with Platform() as platform:
        env = {
            **platform.environment(),
            "FLUX_FACE_BASE_DIRECTORY": str(make_base(directory / "base")),
            "BUCKET_ENDPOINT_URL": storage,
            "BUCKET_ACCESS_KEY_ID": "key",
            "BUCKET_SECRET_ACCESS_KEY": "secret-hush",
        }
        with Worker(directory, env=env) as worker:
            worker.wait_log("ComfyUI is ready", timeout_s=180)
            yield Production(platform, worker)


def test_a_storage_that_refuses_is_an_error_not_a_lost_result(with_bucket: Production, storage: str) -> None:
    # moto keeps the buckets of all its servers in one place, those of other tests among them.
    urllib.request.urlopen(urllib.request.Request(f"{storage}/moto-api/reset", method="POST"), timeout=30).close()
    error = str(with_bucket.run()["error"])
    assert error.startswith("[upload_failed] ")
    assert "NoSuchBucket" in error
    assert "hush" not in error


def test_pictures_are_uploaded_and_returned_as_links(with_bucket: Production, storage: str) -> None:
    client: Any = boto3.client(
        "s3", endpoint_url=storage, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
    )
    today = datetime.now(timezone.utc)
    for month in {f"{day:%m-%y}" for day in (today, today + timedelta(days=1))}:
        client.create_bucket(Bucket=month)
    result = with_bucket.run(batch_size=2, include_generated=True)
    output: Any = result["output"]
    assert [len(output[name]) for name in ("images", "generated")] == [2, 2]
    for image in (*output["images"], *output["generated"]):
        assert image["type"] == "s3_url"
        with urllib.request.urlopen(image["data"], timeout=30) as answer:
            assert answer.headers["Content-Type"] == "image/png"
            assert Image.open(io.BytesIO(answer.read())).size == (64, 64)
    assert len(json.dumps(result)) < 10_000


def test_a_job_may_ask_for_its_pictures_all_the_same(with_bucket: Production) -> None:
    output: Any = with_bucket.run(images_as="base64")["output"]
    (image,) = output["images"]
    assert image["type"] == "base64"
    assert Image.open(io.BytesIO(base64.b64decode(image["data"]))).size == (64, 64)
