"""Signed messages to a client's server, received by real ones on loopback."""

from __future__ import annotations

import base64
import hashlib
import hmac
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from flux_face.server_routes.addresses import AddressPolicy
from flux_face.server_routes.webhooks import Delivery, check_secret, delay_after, deliver, sign, signed_headers
from flux_face.tests.routes.loopback import Names, certificate, serve, serve_bytes

# The specification's reference libraries are all tested with this message.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
MESSAGE = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIMESTAMP = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="

NEW_SECRET = "whsec_" + base64.b64encode(b"a new secret of 32 bytes, really").decode()


def test_the_published_vector() -> None:
    assert sign(SECRET, MESSAGE, TIMESTAMP, BODY) == SIGNATURE


def test_headers_during_a_change_of_secrets() -> None:
    headers = signed_headers([NEW_SECRET, SECRET], MESSAGE, TIMESTAMP, BODY)
    assert headers == {
        "webhook-id": MESSAGE,
        "webhook-timestamp": "1614265330",
        "webhook-signature": f"{sign(NEW_SECRET, MESSAGE, TIMESTAMP, BODY)} {SIGNATURE}",
    }


@given(st.binary(min_size=24, max_size=64), st.from_regex(r"[A-Za-z0-9_-]+", fullmatch=True), st.binary())
def test_the_reference_implementation_agrees(key: bytes, message_id: str, body: bytes) -> None:
    reference = pytest.importorskip("standardwebhooks", reason="the specification's own library")
    import datetime

    secret = "whsec_" + base64.b64encode(key).decode()
    text = base64.b64encode(body).decode()  # it signs text
    at = datetime.datetime.fromtimestamp(TIMESTAMP, tz=datetime.timezone.utc)
    assert reference.Webhook(secret).sign(message_id, at, text) == sign(secret, message_id, TIMESTAMP, text.encode())


@pytest.mark.parametrize("size", [24, 64])
def test_secrets_that_sign(size: int) -> None:
    check_secret("whsec_" + base64.b64encode(bytes(size)).decode())


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "hushhush",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_hush!",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaS",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw ",
        "whsec_hüsh",
        "whsec_" + base64.b64encode(bytes(23)).decode(),
        "whsec_" + base64.b64encode(bytes(65)).decode(),
    ],
)
def test_secrets_that_cannot_sign_are_refused_unshown(secret: str) -> None:
    with pytest.raises(ValueError, match="24 to 64 bytes") as caught:
        check_secret(secret)
    assert "hush" not in str(caught.value)
    assert "MfKQ" not in str(caught.value)


@pytest.mark.parametrize("message_id", ["", "a.b", "a b", "a\r\nX: y", "ä"])
def test_message_ids_that_could_be_taken_for_another_part(message_id: str) -> None:
    with pytest.raises(ValueError, match="message id"):
        sign(SECRET, message_id, TIMESTAMP, BODY)


def test_nothing_is_sent_unsigned() -> None:
    with pytest.raises(ValueError, match="at least one secret"):
        signed_headers([], MESSAGE, TIMESTAMP, BODY)


def test_the_schedule() -> None:
    assert [delay_after(attempt) for attempt in range(1, 9)] == [5, 30, 120, 600, 1800, 7200, None, None]
    assert delay_after(1, 60.0) == 60
    assert delay_after(3, 60.0) == 120
    assert delay_after(1, 1e9) == 7200
    assert delay_after(7, 60.0) is None


async def post(url: str, *allowed: int, attempt: int = 1, body: bytes = BODY, seconds: float = 30.0) -> Delivery:
    policy = AddressPolicy(frozenset(f"127.0.0.1:{port}" for port in allowed))
    return await deliver(url, MESSAGE, body, [NEW_SECRET, SECRET], policy, attempt, seconds)


class Receiver:
    """Answers every message alike and keeps what it heard."""

    def __init__(self, status: int, **headers: str) -> None:
        self.status = status
        self.headers = {name.replace("_", "-"): headers[name] for name in headers}
        self.heard: list[tuple[web.BaseRequest, bytes]] = []

    async def __call__(self, request: web.BaseRequest) -> web.Response:
        self.heard.append((request, await request.content.read()))
        return web.Response(status=self.status, headers=self.headers)


@pytest.mark.parametrize("body", [BODY, b"x" * 5_000_000, b""], ids=["small", "megabytes", "empty"])
async def test_a_message_arrives_and_can_be_verified(body: bytes) -> None:
    receiver = Receiver(200)
    async with serve(receiver) as port:
        assert await post(f"http://127.0.0.1:{port}/done?for=me", port, body=body) == Delivery(
            "delivered", "status 200"
        )
    [(request, heard)] = receiver.heard
    assert (request.method, request.path_qs, heard) == ("POST", "/done?for=me", body)
    assert request.content_type == "application/json"
    assert request.content_length == len(body)
    assert request.headers["webhook-id"] == MESSAGE
    signed = f"{MESSAGE}.{request.headers['webhook-timestamp']}.".encode() + heard
    for secret, signature in zip((NEW_SECRET, SECRET), request.headers["webhook-signature"].split(" "), strict=True):
        expected = hmac.digest(base64.b64decode(secret[6:]), signed, hashlib.sha256)
        assert signature == "v1," + base64.b64encode(expected).decode()


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
async def test_any_2xx_is_delivered(status: int) -> None:
    async with serve(Receiver(status)) as port:
        assert (await post(f"http://127.0.0.1:{port}/", port)).state == "delivered"


@pytest.mark.parametrize("status", [400, 401, 404, 418, 429, 500, 502, 503, 504])
async def test_other_answers_are_tried_again(status: int) -> None:
    async with serve(Receiver(status)) as port:
        assert await post(f"http://127.0.0.1:{port}/", port, attempt=2) == Delivery("retry", f"status {status}", 30.0)


async def test_the_last_attempt() -> None:
    async with serve(Receiver(500)) as port:
        assert (await post(f"http://127.0.0.1:{port}/", port, attempt=6)).state == "retry"
        last = await post(f"http://127.0.0.1:{port}/", port, attempt=7)
    assert last == Delivery("given_up", "status 500, at the last of 7 attempts")


async def test_gone_is_final() -> None:
    async with serve(Receiver(410)) as port:
        given_up = await post(f"http://127.0.0.1:{port}/", port)
    assert given_up.state == "given_up"
    assert given_up.retry_seconds is None


@pytest.mark.parametrize(
    ("status", "asked", "seconds"),
    [
        (429, "60", 60.0),
        (503, "60", 60.0),
        (500, "60", 5.0),
        (429, "1", 5.0),
        (429, "999999999", 7200.0),
        (429, "9" * 4000, 7200.0),
        (429, "-60", 5.0),
        (429, "soon", 5.0),
        (429, "٣٠٠", 5.0),
        (503, "Wed, 21 Oct 2015 07:28:00 GMT", 5.0),
        (503, "Fri, 31 Dec 9999 23:59:59 GMT", 7200.0),
        (503, "Fri, 31 Dec 9999 23:59:59 -2300", 7200.0),
        (503, "Fri, 31 Dec 9999 23:59:59", 7200.0),
    ],
)
async def test_receivers_may_ask_for_time(status: int, asked: str, seconds: float) -> None:
    async with serve(Receiver(status, Retry_After=asked)) as port:
        assert (await post(f"http://127.0.0.1:{port}/", port)).retry_seconds == seconds


async def test_redirects_are_not_followed() -> None:
    inside = Receiver(200)
    async with serve(inside) as there, serve(Receiver(307, Location=f"http://127.0.0.1:{there}/")) as port:
        assert (await post(f"http://127.0.0.1:{port}/", port, there)).reason == "status 307"
    assert inside.heard == []


@pytest.mark.parametrize("url", ["http://hooks.example/?key=hush", "https://10.0.0.1/hush", "https://localhost/"])
async def test_refused_addresses_are_given_up(url: str) -> None:
    given_up = await post(url)
    assert given_up.state == "given_up"
    assert "hush" not in given_up.reason
    assert "10.0.0.1" not in given_up.reason


async def test_names_of_private_addresses_are_given_up() -> None:
    policy = AddressPolicy(lookup=Names(["10.0.0.1"]))
    given_up = await deliver("https://hooks.example/", MESSAGE, BODY, [SECRET], policy, 1)
    assert given_up == Delivery("given_up", "its host is not a public one")


async def test_servers_that_fail_are_tried_again(tmp_path: Path) -> None:
    async with serve_bytes(hang=True) as port:
        assert await post(f"http://127.0.0.1:{port}/", port, seconds=0.3) == Delivery(
            "retry", "no answer within 0.3 seconds", 5.0
        )
    async with serve_bytes(b"HTTP/1.1 ") as port:
        broken = await post(f"http://127.0.0.1:{port}/", port)
    closed = await post(f"http://127.0.0.1:{port}/", port)
    server, _ = certificate(tmp_path, "hooks.test")
    async with serve(Receiver(200), tls=server) as port:
        untrusted = await post(f"https://127.0.0.1:{port}/", port)
    assert {broken, closed, untrusted} == {
        Delivery("retry", "its server cannot be reached, has no valid certificate, or broke off", 5.0)
    }


async def test_what_the_receiver_says_is_not_read() -> None:
    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"\x00" * 10_000)

    async with serve(endless) as port:
        assert (await post(f"http://127.0.0.1:{port}/", port)).state == "delivered"
