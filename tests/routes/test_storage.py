"""Uploading to S3-compatible storage: a real server, real links."""

from __future__ import annotations

import logging
import sys
import threading
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3
import pytest

from flux_face.server_routes.storage import LINK_SECONDS, Storage, StorageError, Upload

moto_server = pytest.importorskip("moto.server", reason="the S3-compatible server of these tests")

SETTINGS = {
    "BUCKET_ENDPOINT_URL": "http://127.0.0.1:9",
    "BUCKET_ACCESS_KEY_ID": "key-hush",
    "BUCKET_SECRET_ACCESS_KEY": "secret-hush",
    "BUCKET_NAME": "portraits",
}


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = moto_server.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket(endpoint: str) -> Iterator[Any]:
    """An empty bucket called ``portraits``, to look into."""
    client = boto3.resource(
        "s3", endpoint_url=endpoint, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
    )
    bucket = client.create_bucket(Bucket="portraits")
    yield bucket
    bucket.objects.all().delete()
    bucket.delete()


def storage(endpoint: str, **changed: str) -> Storage:
    made = Storage.from_environ({**SETTINGS, "BUCKET_ENDPOINT_URL": endpoint, **changed})
    assert made is not None
    return made


def keys(bucket: Any) -> list[str]:
    return sorted(item.key for item in bucket.objects.all())


@pytest.mark.parametrize("region", ["", "eu-central-1"])
def test_a_link_opens_the_picture(endpoint: str, bucket: Any, region: str) -> None:
    link = storage(endpoint, BUCKET_REGION=region).put("job 1/ü_0.png", b"\x89PNG", "image/png")
    assert f"X-Amz-Expires={LINK_SECONDS}" in link
    assert f"%2F{region or 'us-east-1'}%2Fs3%2F" in link
    with urllib.request.urlopen(link, timeout=30) as answer:
        assert answer.headers["Content-Type"] == "image/png"
        assert answer.read() == b"\x89PNG"
    assert keys(bucket) == ["job 1/ü_0.png"]


def test_many_threads_share_one_storage(endpoint: str, bucket: Any) -> None:
    shared = storage(endpoint)
    with ThreadPoolExecutor(8) as pool:
        links = list(pool.map(lambda index: shared.put(f"{index}.png", b"%d" % index, "image/png"), range(24)))
    assert len(keys(bucket)) == 24
    for index, link in enumerate(links):
        with urllib.request.urlopen(link, timeout=30) as answer:
            assert answer.read() == b"%d" % index


@pytest.mark.usefixtures("bucket")
def test_all_pictures_are_stored_in_order(endpoint: str) -> None:
    links = storage(endpoint).put_all([Upload(f"{name}.png", name.encode(), "image/png") for name in "cab"])
    read = []
    for link in links:
        with urllib.request.urlopen(link, timeout=30) as answer:
            read.append(answer.read())
    assert read == [b"c", b"a", b"b"]
    assert storage(endpoint).put_all([]) == []


def test_all_pictures_or_none(endpoint: str, bucket: Any) -> None:
    bucket.put_object(Key="other.png", Body=b"not ours")
    with pytest.raises(StorageError, match="ParamValidationError"):
        storage(endpoint).put_all([Upload(key, b"", "image/png") for key in ("a.png", "b.png", "", "c.png")])
    assert keys(bucket) == ["other.png"]


@pytest.mark.parametrize(("name", "code"), [("none-such", "NoSuchBucket"), ("no name", "ParamValidationError")])
def test_a_bucket_that_does_not_exist(endpoint: str, name: str, code: str) -> None:
    with pytest.raises(StorageError, match=rf"{code}.*BUCKET_NAME") as caught:
        storage(endpoint, BUCKET_NAME=name).put("a.png", b"", "image/png")
    assert "hush" not in str(caught.value)


def test_without_a_name_the_bucket_is_that_of_the_month_of_the_upload(endpoint: str) -> None:
    """As RunPod's own uploads name it. A batch of pictures stays together at the turn of the month."""
    clock = iter([datetime(2026, 11, 30, 23, 59, tzinfo=timezone.utc) + timedelta(minutes=late) for late in (0, 1, 2)])
    monthly = Storage(endpoint, "key-hush", "secret-hush", clock=lambda: next(clock))
    client = boto3.resource(
        "s3", endpoint_url=endpoint, aws_access_key_id="k", aws_secret_access_key="s", region_name="us-east-1"
    )
    november, december = client.create_bucket(Bucket="11-26"), client.create_bucket(Bucket="12-26")
    link, *_ = monthly.put_all([Upload("a.png", b"a", "image/png"), Upload("b.png", b"b", "image/png")])
    monthly.put("c.png", b"c", "image/png")
    assert (keys(november), keys(december)) == (["a.png", "b.png"], ["c.png"])
    with urllib.request.urlopen(link, timeout=30) as answer:
        assert answer.read() == b"a"
    with pytest.raises(StorageError):
        monthly.put_all([Upload("d.png", b"", "image/png"), Upload("", b"", "image/png")])
    assert keys(december) == ["c.png"]


def test_a_name_alone_is_no_storage() -> None:
    with pytest.raises(ValueError, match="need BUCKET_ENDPOINT_URL and"):
        Storage.from_environ({"BUCKET_NAME": "portraits"})
    assert storage("http://127.0.0.1:9", BUCKET_NAME="") is not None


class Unwell(BaseHTTPRequestHandler):
    """A storage that answers the first requests with the statuses in ``ills``, and the others well."""

    ills: list[int]
    asked: list[str]
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.asked.append(f"{self.command} {self.path}")
        self.send_response(self.ills.pop(0) if self.ills else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name in http.server)
        pass


@pytest.fixture
def unwell() -> Iterator[tuple[str, type[Unwell]]]:
    handler = type("Handler", (Unwell,), {"ills": [], "asked": []})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", handler
        server.shutdown()


def test_a_storage_that_recovers_gets_its_picture(unwell: tuple[str, type[Unwell]]) -> None:
    endpoint, handler = unwell
    handler.ills.extend([503, 500])
    storage(endpoint).put("a.png", b"picture", "image/png")
    assert handler.asked == ["PUT /portraits/a.png"] * 3


def test_a_storage_that_does_not_recover(unwell: tuple[str, type[Unwell]], caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be deleted is said in the log, by its key."""
    endpoint, handler = unwell
    handler.ills.extend([200] + [503] * 9)
    uploads = [Upload("a.png", b"", "image/png"), Upload("b.png", b"", "image/png")]
    with caplog.at_level(logging.WARNING), pytest.raises(StorageError, match="503"):
        storage(endpoint).put_all(uploads)
    assert [line.split("/")[-1] for line in handler.asked] == ["a.png"] + ["b.png"] * 3 + ["a.png"] * 3 + ["b.png"] * 3
    assert "a.png may be left" in caplog.text
    assert "b.png may be left" in caplog.text
    assert "hush" not in caplog.text


def test_nobody_listens() -> None:
    with pytest.raises(StorageError, match="BUCKET_ENDPOINT_URL and the network") as caught:
        storage("http://127.0.0.1:9").put("a.png", b"", "image/png")
    assert "hush" not in str(caught.value)
    assert "127.0.0.1" not in str(caught.value)


def test_no_settings_no_storage() -> None:
    assert Storage.from_environ({}) is None
    assert Storage.from_environ(dict.fromkeys(SETTINGS, " ")) is None


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - {"BUCKET_NAME"}))
def test_an_incomplete_setting_is_named_and_none_is_shown(name: str) -> None:
    for environ in ({**SETTINGS, name: ""}, {name: SETTINGS[name]}):
        missing = [other for other in SETTINGS if other != "BUCKET_NAME" and not environ.get(other)]
        with pytest.raises(ValueError, match=f"need {' and '.join(missing)} too") as caught:
            Storage.from_environ(environ)
        assert "hush" not in str(caught.value)


@pytest.mark.parametrize(
    "url", ["minio:9000", "ftp://hush", "https://", "https://user:hush@minio", "http://[hush", "http://a:x"]
)
def test_an_endpoint_that_is_no_address(url: str) -> None:
    with pytest.raises(ValueError, match="BUCKET_ENDPOINT_URL") as caught:
        storage(url)
    assert "hush" not in str(caught.value)


def test_without_boto3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    with pytest.raises(ValueError, match="pip install boto3"):
        Storage.from_environ(SETTINGS)
