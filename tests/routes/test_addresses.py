"""What the server connects to when a client names it. No connection is made here."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from urllib.parse import urlsplit

import pytest
from aiohttp.helpers import is_ip_address
from hypothesis import given
from hypothesis import strategies as st

from flux_face.nodes.errors import UserInputError
from flux_face.server_routes.addresses import (
    MAX_URL_CHARS,
    AddressPolicy,
    AddressRefusedError,
    JudgingResolver,
    check_url,
    check_webhook_url,
    is_public,
    open_session,
)
from flux_face.tests.routes.loopback import Names

POLICY = AddressPolicy()
# Global by the registry, and refused by us: the ranges and their reasons are beside the table in addresses.py.
STRICTER_THAN_THE_REGISTRY = [IPv4Network("168.63.129.16"), IPv4Network("192.0.0.0/24"), IPv4Network("192.88.99.0/24")]
NOT_PUBLIC = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.168.1.1",
    "198.18.0.1",
    "203.0.113.5",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::808:808",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:7f00:1",
    "64:ff9b::10.0.0.1",
    "64:ff9b::169.254.169.254",
    "64:ff9b:1::808:808",
    "100::1",
    "2001::1",
    "2001:0:a9fe:a9fe::1",
    "2001:db8::1",
    "2002:7f00:1::1",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
]
PUBLIC = ["1.1.1.1", "100.63.255.255", "172.32.0.1", "223.255.255.255", "2606:4700::1111", "64:ff9b::808:808"]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("text", PUBLIC)
def test_public(text: str) -> None:
    assert is_public(ip_address(text))


@given(st.ip_addresses(v=4))
def test_ipv4_agrees_with_the_standard_library(address: IPv4Address) -> None:
    theirs = address.is_global and not address.is_multicast
    stricter = any(address in network for network in STRICTER_THAN_THE_REGISTRY)
    assert is_public(address) == (theirs and not stricter)


@given(st.ip_addresses(v=6))
def test_public_ipv6_is_global_unicast(address: IPv6Address) -> None:
    if is_public(address):
        assert address.is_global
        assert not address.is_multicast
        assert address.sixtofour is None
        assert address.teredo is None


@given(st.ip_addresses(v=4), st.sampled_from(["::ffff:0:0", "64:ff9b::"]))
def test_an_embedded_ipv4_address_is_judged_itself(address: IPv4Address, prefix: str) -> None:
    assert is_public(IPv6Address(int(IPv6Address(prefix)) + int(address))) == is_public(address)


def refusal(url: str, policy: AddressPolicy = POLICY) -> str:
    with pytest.raises(UserInputError) as caught:
        check_url(url, "user_photo", policy)
    assert caught.value.field == "user_photo"
    return caught.value.code


@pytest.mark.parametrize(
    ("url", "sent"),
    [
        ("https://pictures.example/a.png", "https://pictures.example/a.png"),
        ("HTTPS://Pictures.EXAMPLE:443/A.png", "https://pictures.example/A.png"),
        ("https://pictures.example", "https://pictures.example/"),
        ("https://pictures.example?a=b", "https://pictures.example/?a=b"),
        (
            "https://my_bucket.s3.example/k%2Fk?X-Sig=a%2Bb%3D&c=~",
            "https://my_bucket.s3.example/k%2Fk?X-Sig=a%2Bb%3D&c=~",
        ),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
        ("https://1.1.1.1/", "https://1.1.1.1/"),
        ("https://[2606:4700:0::1111]/", "https://[2606:4700::1111]/"),
    ],
)
def test_public_addresses_are_sent_as_written(url: str, sent: str) -> None:
    target = check_url(url, "user_photo", POLICY)
    assert f"{target.scheme}://{target.host_port_subcomponent}{target.raw_path_qs}" == sent
    assert target.port == 443


@pytest.mark.parametrize(
    "url",
    [
        "",
        "pictures.example/a.png",
        "//pictures.example/",
        "http://pictures.example/",
        "http://127.0.0.1/",
        "ftp://pictures.example/",
        "file:///etc/passwd",
        "gopher://pictures.example/",
        "data:image/png;base64,AAAA",
        "javascript:alert(1)",
        " https://pictures.example/",
        "https:pictures.example/",
        "https:/pictures.example/",
    ],
)
def test_only_https(url: str) -> None:
    assert refusal(url) == "url_scheme"


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_literals_that_are_not_public_are_refused(text: str) -> None:
    assert refusal(f"https://[{text}]/" if ":" in text else f"https://{text}/") == "url_refused"


@pytest.mark.parametrize(
    "host",
    [
        # other spellings of 127.0.0.1, 8.8.8.8 and the like
        "2130706433",
        "0x7f000001",
        "0x7F.1",
        "017700000001",
        "0177.0.0.1",
        "127.1",
        "127.0.1",
        "134744072",
        "8.8.8.010",
        "8.8.8.8.",
        "8.8.8",
        "8.8.8.8.8",
        "8.8.8.256",
        "0x",
        "1.0x",
        "[::ffff:7f00:1]",
        "[fe80::1%25eth0]",
        "[fe80::1%eth0]",
        "[v1.a]",
        "[]",
        "[1.1.1.1]",
        "::1",
        # names that are none, or not full ones
        "localhost",
        "metadata",
        "pictures.example.",
        "pictures..example",
        ".example",
        "-a.example",
        "a-.example",
        f"{'a' * 64}.example",
        ".".join(["a" * 60] * 5),
        # what parsers disagree about
        "user@pictures.example",
        "user:word@pictures.example",
        "pictures.example@127.0.0.1",
        "pictures.example\\@127.0.0.1",
        "pictures.example%2f@127.0.0.1",
        "127.0.0.1\\.pictures.example",
        "pictures.example:0",
        "pictures.example:",
        "pictures.example:0443",
        "pictures.example:80",
        "pictures.example:8443",
        "pictures.example:443:80",
        "pictures.example:99999",
        "%31%32%37.0.0.1",
        "１２７.０.０.１",
        "127。0。0。1",
        "ⓛocalhost.example",
        "bücher.example",
        "faß.example",
        "\N{KELVIN SIGN}ey.example",  # its lower case is an ASCII k
        "\N{LATIN SMALL LETTER LONG S}ecret.example",
        "pictures.example\t",
        "pictures.example\r\nHost: 127.0.0.1",
        "pictures .example",
        "",
    ],
)
def test_odd_hosts_are_refused(host: str) -> None:
    assert refusal(f"https://{host}/a.png") == "url_refused"


@pytest.mark.parametrize("rest", ["/a b", "/a\r\nX: y", "/\x00", "/ü", "/a\\\n", "/" + "a" * MAX_URL_CHARS])
def test_odd_paths_are_refused(rest: str) -> None:
    assert refusal("https://pictures.example" + rest) == "url_refused"


@given(st.text("0123456789abfxX.-", min_size=1, max_size=24))
def test_no_spelling_of_an_ipv4_address_passes_as_a_name(host: str) -> None:
    """What the system's own functions would read as an address is a public one in its usual spelling, or refused."""
    try:
        target = check_url(f"https://{host}/", "user_photo", POLICY)
    except UserInputError:
        return
    try:
        packed = socket.inet_aton(host)
    except OSError:
        assert not is_ip_address(target.raw_host)  # aiohttp would not ask the resolver
    else:
        assert host == str(IPv4Address(packed))
        assert is_public(IPv4Address(packed))


@given(st.text(st.sampled_from("ahtps:/\\@[]%#?.&1270 \t\néﬀ。\u017f\u212a"), max_size=30).map("https://".__add__))
def test_two_parsers_agree_on_what_passes(url: str) -> None:
    try:
        target = check_url(url, "user_photo", POLICY)
    except UserInputError as error:
        assert error.code in ("url_refused", "url_scheme")  # noqa: PT017  (both ways are fine, others are not)
        return
    parts = urlsplit(url)
    assert (parts.hostname, parts.port or 443, parts.username) == (target.raw_host, target.port, None)


def test_exceptions_are_exact() -> None:
    policy = AddressPolicy(frozenset({"127.0.0.1:9000", "minio:9000", "[::1]:9000", "files.example:80"}))
    for url in ("http://127.0.0.1:9000/a", "https://127.0.0.1:9000/", "http://MINIO:9000/", "http://files.example/"):
        check_url(url, "user_photo", policy)
    assert check_url("http://[0:0::1]:9000/", "user_photo", policy).raw_host == "::1"
    for url in ("https://127.0.0.1/", "https://127.0.0.1:9001/", "https://minio/", "https://127.1:9000/"):
        assert refusal(url, policy) == "url_refused"
    for url in ("http://minio/", "http://minio.example:9000/", "http://127.1:9000/", "ftp://minio:9000/"):
        assert refusal(url, policy) == "url_scheme"


@pytest.mark.parametrize(
    "entry", ["", "minio", "MinIO:9000", "http://minio:9000", "minio:0", "minio:70000", "[0::1]:80", "[x]:80", "::1:80"]
)
def test_exceptions_that_could_never_match_are_named(entry: str) -> None:
    with pytest.raises(ValueError, match="host:port"):
        AddressPolicy(frozenset({entry}))


def test_webhooks_are_checked_alike() -> None:
    check_webhook_url("https://hooks.example/done", POLICY)
    with pytest.raises(UserInputError, match=r"\[url_scheme\] webhook"):
        check_webhook_url("http://hooks.example/done", POLICY)


@pytest.mark.parametrize("url", ["https://10.1.2.3/?token=hush", "http://a.example/?token=hush", "https://u:hush@b.c/"])
def test_messages_do_not_repeat_the_address(url: str) -> None:
    with pytest.raises(UserInputError) as caught:
        check_url(url, "user_photo", POLICY)
    assert "hush" not in str(caught.value)
    assert "10.1.2.3" not in str(caught.value)


async def test_names_keep_exactly_the_addresses_that_were_judged() -> None:
    found = ["1.1.1.1", "2606:4700::1111", "8.8.8.8"]
    results = await JudgingResolver(AddressPolicy(lookup=Names(found))).resolve("pictures.example", 443)
    assert [result["host"] for result in results] == found
    assert [result["family"] for result in results] == [socket.AF_INET, socket.AF_INET6, socket.AF_INET]
    assert {result["port"] for result in results} == {443}


@pytest.mark.parametrize("found", [[text] for text in NOT_PUBLIC] + [["1.1.1.1", "10.0.0.1"], ["::1", "1.1.1.1"]])
async def test_one_address_that_is_not_public_spoils_the_name(found: list[str]) -> None:
    with pytest.raises(AddressRefusedError):
        await JudgingResolver(AddressPolicy(lookup=Names(found))).resolve("pictures.example", 443)


async def test_the_client_asks_the_judge() -> None:
    policy = AddressPolicy(lookup=Names(["127.0.0.1"]))
    async with open_session(policy) as session:
        with pytest.raises(AddressRefusedError):
            await session.get(check_url("https://pictures.example/", "user_photo", policy))


async def test_a_name_is_judged_at_every_connection() -> None:
    """Rebinding: public when first asked, 127.0.0.1 afterwards."""
    resolver = JudgingResolver(AddressPolicy(lookup=Names(["1.1.1.1"], ["127.0.0.1"])))
    await resolver.resolve("pictures.example", 443)
    with pytest.raises(AddressRefusedError):
        await resolver.resolve("pictures.example", 443)


async def test_the_systems_own_lookup_is_judged() -> None:
    with pytest.raises(AddressRefusedError):
        await JudgingResolver(POLICY).resolve("localhost", 443)
    allowed = await JudgingResolver(AddressPolicy(frozenset({"localhost:9000"}))).resolve("localhost", 9000)
    assert {ip_address(result["host"]).is_loopback for result in allowed} == {True}
