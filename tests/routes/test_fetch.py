"""Pictures from an address: real servers on loopback, which the operator's exceptions allow."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiohttp import web
from hypothesis import example, given, settings
from hypothesis import strategies as st

from flux_face.nodes.errors import UserInputError
from flux_face.server_routes.addresses import AddressPolicy
from flux_face.server_routes.fetch import fetch_picture
from flux_face.tests.routes.loopback import Names, certificate, serve, serve_bytes

PICTURE = bytes(range(256)) * 400


async def fetch(url: str, *allowed: int, max_bytes: int = 200_000, seconds: float = 30.0) -> bytes:
    policy = AddressPolicy(frozenset(f"127.0.0.1:{port}" for port in allowed))
    return await fetch_picture(url, "user_photo", policy, max_bytes, seconds)


async def refused(fetching: Awaitable[bytes]) -> UserInputError:
    with pytest.raises(UserInputError) as caught:
        await fetching
    assert caught.value.field == "user_photo"
    return caught.value


def answering(
    body: bytes = PICTURE, status: int = 200, **headers: str
) -> Callable[[web.BaseRequest], Awaitable[web.Response]]:
    async def handler(_request: web.BaseRequest) -> web.Response:
        return web.Response(
            body=body, status=status, headers={name.replace("_", "-"): headers[name] for name in headers}
        )

    return handler


async def test_a_picture_is_fetched_as_it_is() -> None:
    async with serve(answering()) as port:
        assert await fetch(f"http://127.0.0.1:{port}/a.png", port) == PICTURE


async def test_over_https_with_a_certificate_for_the_name(tmp_path: Path) -> None:
    server, trusting = certificate(tmp_path, "pictures.test")
    _, distrusting = certificate(tmp_path, "other.test")
    async with serve(answering(), tls=server) as port:

        def policy(host: str, **options: object) -> AddressPolicy:
            return AddressPolicy(frozenset({f"{host}:{port}"}), Names(["127.0.0.1"]), **options)  # type: ignore[arg-type]

        good = policy("pictures.test", tls=trusting)
        url = f"https://pictures.test:{port}/a.png"
        assert await fetch_picture(url, "user_photo", good, 200_000, 30) == PICTURE
        for bad in (policy("pictures.test"), policy("pictures.test", tls=distrusting)):
            error = await refused(fetch_picture(url, "user_photo", bad, 200_000, 30))
            assert error.code == "url_unreachable"
        other = policy("other.test", tls=trusting)
        error = await refused(fetch_picture(f"https://other.test:{port}/", "user_photo", other, 200_000, 30))
        assert error.code == "url_unreachable"


async def test_redirects_are_followed_three_times() -> None:
    async def handler(request: web.BaseRequest) -> web.Response:
        left = int(request.path.strip("/"))
        if left == 0:
            return web.Response(body=PICTURE)
        return web.Response(status=(301, 302, 303, 307, 308)[left % 5], headers={"Location": f"/{left - 1}?x=%2F"})

    async with serve(handler) as port:
        assert await fetch(f"http://127.0.0.1:{port}/3", port) == PICTURE
        error = await refused(fetch(f"http://127.0.0.1:{port}/4", port))
    assert error.code == "url_status"
    assert "more than 3" in error.problem


@pytest.mark.parametrize(
    ("location", "code"),
    [
        ("https://169.254.169.254/latest/meta-data/", "url_refused"),
        ("https://[fd00:ec2::254]/latest/", "url_refused"),
        ("https://[::ffff:169.254.169.254]/", "url_refused"),
        ("https://127.0.0.1/", "url_refused"),
        ("https://2130706433/", "url_refused"),
        ("https://localhost/", "url_refused"),
        ("https://pictures.example:8443/", "url_refused"),
        ("//169.254.169.254/latest", "url_scheme"),
        ("http://pictures.example/", "url_scheme"),
        ("file:///etc/passwd", "url_scheme"),
        ("ftp://pictures.example/", "url_scheme"),
        ("http://[", "url_status"),
    ],
)
async def test_redirects_are_judged_anew(location: str, code: str) -> None:
    async with serve(answering(status=302, Location=location)) as port:
        assert (await refused(fetch(f"http://127.0.0.1:{port}/", port))).code == code


async def test_a_redirect_to_nowhere() -> None:
    async with serve(answering(status=302)) as port:
        assert (await refused(fetch(f"http://127.0.0.1:{port}/", port))).code == "url_status"


async def test_a_redirect_does_not_reach_a_server_that_is_no_exception() -> None:
    asked = []

    async def inner(request: web.BaseRequest) -> web.Response:
        asked.append(request.path)
        return web.Response(body=PICTURE)

    async with serve(inner) as inside, serve(answering(status=307, Location=f"http://127.0.0.1:{inside}/")) as port:
        assert (await refused(fetch(f"http://127.0.0.1:{port}/", port))).code == "url_scheme"
        assert asked == []
        assert await fetch(f"http://127.0.0.1:{port}/", port, inside) == PICTURE
        assert asked == ["/"]


async def test_no_redirect_from_https_to_http(tmp_path: Path) -> None:
    server, trusting = certificate(tmp_path, "pictures.test")
    async with serve(answering()) as plain:
        target = f"http://127.0.0.1:{plain}/"
        async with serve(answering(status=302, Location=target), tls=server) as port:
            allowed = frozenset({f"pictures.test:{port}", f"127.0.0.1:{plain}"})
            policy = AddressPolicy(allowed, Names(["127.0.0.1"]), trusting)
            error = await refused(fetch_picture(f"https://pictures.test:{port}/", "user_photo", policy, 200_000, 30))
    assert error.code == "url_scheme"
    assert "from https to http" in error.problem


async def test_names_of_private_addresses_are_refused_unconnected() -> None:
    names = Names(["127.0.0.9"])
    policy = AddressPolicy(lookup=names)
    error = await refused(fetch_picture("https://rebind.example/?key=hush", "user_photo", policy, 200_000, 30))
    assert error.code == "url_refused"
    assert names.asked == ["rebind.example"]
    assert "127.0.0" not in str(error)
    assert "hush" not in str(error)


async def test_the_address_connected_to_is_the_one_looked_up() -> None:
    """The second answer would be another server: it is never asked for."""
    async with serve(answering()) as port:
        names = Names(["127.0.0.1"], ["127.0.0.2"])
        policy = AddressPolicy(frozenset({f"files.test:{port}"}), names)
        assert await fetch_picture(f"http://files.test:{port}/", "user_photo", policy, 200_000, 30) == PICTURE
    assert names.asked == ["files.test"]


async def test_a_name_that_does_not_exist() -> None:
    for names in (Names(), Names([])):
        policy = AddressPolicy(lookup=names)
        error = await refused(fetch_picture("https://nowhere.example/", "user_photo", policy, 200_000, 30))
        assert error.code == "url_unreachable"


async def test_nobody_listens() -> None:
    async with serve(answering()) as port:
        pass
    error = await refused(fetch(f"http://127.0.0.1:{port}/?key=hush", port))
    assert error.code == "url_unreachable"
    assert "127.0.0.1" not in str(error)
    assert "hush" not in str(error)


@pytest.mark.parametrize("status", [201, 204, 206, 304, 400, 401, 403, 404, 418, 500, 503])
async def test_any_status_but_200(status: int) -> None:
    async with serve(answering(body=b"", status=status)) as port:
        error = await refused(fetch(f"http://127.0.0.1:{port}/?key=hush", port))
    assert error.code == "url_status"
    assert str(status) in error.problem
    assert "hush" not in str(error)


async def test_the_limit_of_bytes() -> None:
    async with serve(answering()) as port:
        assert await fetch(f"http://127.0.0.1:{port}/", port, max_bytes=len(PICTURE)) == PICTURE
        error = await refused(fetch(f"http://127.0.0.1:{port}/", port, max_bytes=len(PICTURE) - 1))
    assert error.code == "photo_too_large"


async def test_an_announced_size_is_believed_before_the_body() -> None:
    async with serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n", hang=True) as port:
        assert (await refused(fetch(f"http://127.0.0.1:{port}/", port))).code == "photo_too_large"


async def test_a_body_without_end_is_given_up() -> None:
    async def endless(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"\x00" * 10_000)

    async with serve(endless) as port:
        assert (await refused(fetch(f"http://127.0.0.1:{port}/", port))).code == "photo_too_large"


@pytest.mark.parametrize(
    "parts", [(), (b"HTTP/1.1 200 OK\r\n",), (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n", b"half")]
)
async def test_a_server_that_hangs(parts: tuple[bytes, ...]) -> None:
    async with serve_bytes(*parts, hang=True) as port:
        error = await refused(fetch(f"http://127.0.0.1:{port}/", port, seconds=0.3))
    assert error.code == "url_timeout"


async def test_redirects_share_the_time() -> None:
    async def handler(_request: web.BaseRequest) -> web.Response:
        await asyncio.sleep(0.5)
        return web.Response(status=302, headers={"Location": "/"})

    async with serve(handler) as port:
        assert (await refused(fetch(f"http://127.0.0.1:{port}/", port, seconds=1.2))).code == "url_timeout"


async def test_a_server_that_breaks_off() -> None:
    async with serve_bytes(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf") as port:
        assert (await refused(fetch(f"http://127.0.0.1:{port}/", port))).code == "url_unreachable"


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd", "gzip, gzip"])
async def test_compressed_answers_are_refused(encoding: str) -> None:
    bomb = gzip.compress(bytes(10_000_000))
    async with serve(answering(body=bomb, Content_Encoding=encoding)) as port:
        error = await refused(fetch(f"http://127.0.0.1:{port}/", port, max_bytes=20_000_000))
    assert error.code == "url_status"
    assert "compresses" in error.problem


async def test_what_the_server_hears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy, password or cookie, whatever the environment and the server say."""
    requests: list[web.BaseRequest] = []

    async def handler(request: web.BaseRequest) -> web.Response:
        requests.append(request)
        if len(requests) == 1:
            return web.Response(status=302, headers={"Location": "/b?sig=%2B%2f", "Set-Cookie": "id=1; Path=/"})
        return web.Response(body=PICTURE)

    async with serve(handler) as port, serve(answering(status=500)) as proxy:
        passwords = tmp_path / "netrc"
        passwords.write_text("machine files.test login me password hush\n")
        passwords.chmod(0o600)
        monkeypatch.setenv("NETRC", str(passwords))
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy}")
        # By name: aiohttp keeps no cookies of an IP address anyway.
        policy = AddressPolicy(frozenset({f"files.test:{port}"}), Names(["127.0.0.1"]))
        assert await fetch_picture(f"http://files.test:{port}/a#part", "user_photo", policy, 200_000, 30) == PICTURE
    assert [request.raw_path for request in requests] == ["/a", "/b?sig=%2B%2f"]
    for request in requests:
        assert request.headers["Accept-Encoding"] == "identity"
        assert request.headers["Host"] == f"files.test:{port}"
        assert not {"Authorization", "Cookie", "Referer", "Proxy-Authorization"} & set(request.headers)


async def test_cancelling_is_not_taken_for_an_error() -> None:
    async with serve_bytes(hang=True) as port:
        task = asyncio.create_task(fetch(f"http://127.0.0.1:{port}/", port))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@given(
    st.lists(
        st.sampled_from(
            [
                b"HTTP/1.1 200 OK\r\n",
                b"HTTP/1.1 302 Found\r\nLocation: ",
                b"HTTP/1.1 100 Continue\r\n\r\n",
                b"HTTP/9.9 -1 \xff\r\n",
                b"Transfer-Encoding: chunked\r\n",
                b"Content-Length: 5\r\n",
                b"Content-Length: -5\r\n",
                b"Content-Encoding: gzip\r\n",
                b"Set-Cookie: \xff=\x00;;=\r\n",
                b"5\r\nhello\r\n",
                b"FFFFFFFFFFFFFFFFF\r\n",
                b"\r\n",
                b"\xff\xfe\x00",
                b"x" * 20_000,
            ]
        )
        | st.binary(max_size=20),
        max_size=8,
    ).map(b"".join)
)
@example(b"HTTP/1.1 302 Found\r\nLocation: https://\xff\xfe/\r\n\r\n")
@settings(max_examples=60, deadline=None)
def test_whatever_a_server_says_ends_as_bytes_or_a_told_error(answer: bytes) -> None:
    async def ask() -> None:
        async with serve_bytes(answer) as port:
            try:
                assert isinstance(await fetch(f"http://127.0.0.1:{port}/", port, seconds=10), bytes)
            except UserInputError as error:
                assert error.code.startswith(("url_", "photo_too_large"))  # noqa: PT017  (both ways are fine)

    asyncio.run(ask())
