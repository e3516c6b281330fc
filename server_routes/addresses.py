"""Which addresses the server connects to when a client names them: public ones over https, and the operator's own.

``check_url`` judges how an address is written, without network. ``open_session`` gives a client whose resolver judges
what a name resolves to and hands on exactly the addresses it judged, so that a name which changes its mind gains
nothing. aiohttp does not ask a resolver about IP literals, so every address goes through ``check_url`` first, those of
redirects too.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from aiohttp import ClientSession, ClientTimeout, DummyCookieJar, TCPConnector
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from ..nodes.errors import UserInputError

Lookup = Callable[[str, int], Sequence[str]]
"""Host name and port to the host's addresses; blocks. Raises OSError where there are none."""

MAX_URL_CHARS = 4_096
_HOST = r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])"
_PORT = r"(?P<port>[1-9][0-9]{0,4})"
# ASCII only, and an authority of host and port only: no user info, percent signs, backslashes or zone ids, about which
# parsers disagree.
_URL = re.compile(rf"(?P<scheme>https?)://{_HOST}(:{_PORT})?(?P<rest>[/?#][\x21-\x7e]*)?", re.IGNORECASE | re.ASCII)
_HOST_AND_PORT = re.compile(rf"{_HOST}:{_PORT}")
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_MAX_NAME_CHARS = 253
# A host whose last label looks like a number is an IPv4 address in one of its many spellings, never a name.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_MAX_PORT = 65_535
_DEFAULT_PORTS = {"http": 80, "https": 443}

# IANA's special-purpose registries, and multicast; not ipaddress.is_global, which differs between Python versions.
_REFUSED_V4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # looks public, but is the metadata and name server of every Azure machine
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)
_UNICAST_V6 = IPv6Network("2000::/3")
_REFUSED_V6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments; Teredo, which embeds an IPv4 address, is one
        "2001:db8::/32",
        "2002::/16",  # 6to4: embeds an IPv4 address, and nobody needs it any more
        "3fff::/20",
    )
)
# IPv6 spellings of an IPv4 address. NAT64's is what every IPv4-only host has on an IPv6-only network.
_EMBEDS_V4 = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))

# Not the event loop's own threads: names that resolve slowly must not hold up the rest of the server.
_LOOKUPS = ThreadPoolExecutor(max_workers=8, thread_name_prefix="flux-face-lookup")


class AddressRefusedError(Exception):
    """A name resolves to an address that is not public. Raised out of requests of ``open_session``'s client."""


def _system_lookup(host: str, port: int) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


@dataclass(frozen=True)
class AddressPolicy:
    """What may be connected to besides public hosts over https on port 443.

    Attributes:
        allowed_hosts: exceptions ``host:port``, compared as text with what the client wrote: ``127.0.0.1:9000``,
            ``minio:9000``, ``[::1]:9000``. They may be http, and what they resolve to is not judged.
        lookup: how names are resolved.
        tls: the certificates to trust; None for the system's.

    Raises:
        ValueError: an entry of ``allowed_hosts`` could never match.
    """

    allowed_hosts: frozenset[str] = frozenset()
    lookup: Lookup = _system_lookup
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        for entry in sorted(self.allowed_hosts):
            match = _HOST_AND_PORT.fullmatch(entry)
            usable = match is not None and _canonical_host(match["host"]) == match["host"]
            if match is None or not usable or int(match["port"]) > _MAX_PORT:
                raise ValueError(f"{entry!r} is not of the form host:port in lower case, e.g. 127.0.0.1:9000")

    def allows(self, host: str, port: int) -> bool:
        """Whether the operator made an exception for it."""
        return f"{host}:{port}" in self.allowed_hosts


def is_public(address: IPv4Address | IPv6Address) -> bool:
    """Whether it is a unicast address of the public internet, and so is an IPv4 address embedded in it."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _REFUSED_V4)
    if any(address in network for network in _EMBEDS_V4):
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    return address in _UNICAST_V6 and not any(address in network for network in _REFUSED_V6)


def check_url(url: str, field: str, policy: AddressPolicy) -> URL:
    """An address as a client wrote it, to what may be requested with ``open_session``. No network is used.

    Raises:
        UserInputError: ``url_scheme`` or ``url_refused``; the address itself is not in the message.
    """
    if url[:8].lower() != "https://" and url[:7].lower() != "http://":
        raise _wrong_scheme(field)
    match = _URL.fullmatch(url) if len(url) <= MAX_URL_CHARS else None
    host = None if match is None else _canonical_host(match["host"])
    if match is None or host is None:
        raise _refused(
            field,
            f"the address is not of the form https://host/path in at most {MAX_URL_CHARS} ASCII characters",
            "Leave out user names, and percent-encode what is not ASCII (xn-- in the host)",
        )
    scheme = match["scheme"].lower()
    port = int(match["port"] or _DEFAULT_PORTS[scheme])
    if not policy.allows(host, port):
        if scheme != "https":
            raise _wrong_scheme(field)
        if port != _DEFAULT_PORTS["https"]:
            raise _refused(field, f"the address has port {port}", "Only port 443 is connected to")
        _check_host(host, field)
    rest = match["rest"] or ""
    slash = "" if rest.startswith("/") else "/"
    # Encoded: what follows the host is sent as it is, so that a signed address keeps its signature.
    return URL(f"{scheme}://{host}:{port}{slash}{rest}", encoded=True)


def check_webhook_url(url: str, policy: AddressPolicy) -> None:
    """Refuse a webhook whose address could never be delivered to. No network is used.

    Raises:
        UserInputError: as ``check_url``, for the field ``webhook``.
    """
    check_url(url, "webhook", policy)


def open_session(policy: AddressPolicy) -> ClientSession:
    """A client for addresses that ``check_url`` returned: no proxy, cookies or credentials; nothing is decompressed.

    Whoever uses it turns aiohttp's redirects off, limits the time, and closes it. Requests raise AddressRefusedError
    beside aiohttp's errors. Call it on the event loop.
    """
    connector = TCPConnector(
        resolver=JudgingResolver(policy), use_dns_cache=False, force_close=True, ssl=policy.tls or True
    )
    return ClientSession(
        connector=connector,
        cookie_jar=DummyCookieJar(),
        trust_env=False,
        auto_decompress=False,
        timeout=ClientTimeout(total=None),
        headers={"User-Agent": "Flux-Face", "Accept-Encoding": "identity"},
    )


class JudgingResolver(AbstractResolver):
    """Resolves names afresh for every connection; one address that is not public spoils the name."""

    def __init__(self, policy: AddressPolicy) -> None:
        self._policy = policy

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        loop = asyncio.get_running_loop()
        texts = await loop.run_in_executor(_LOOKUPS, self._policy.lookup, host, port)
        addresses = [ip_address(text) for text in texts]
        if not addresses:
            raise OSError("the name has no address")
        if not self._policy.allows(host, port) and not all(is_public(address) for address in addresses):
            raise AddressRefusedError
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET if address.version == 4 else socket.AF_INET6,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        pass


def _canonical_host(text: str) -> str | None:
    """In lower case, IPv6 addresses in their shortest form; None for brackets around something else."""
    if not text.startswith("["):
        return text.lower()
    try:
        return f"[{IPv6Address(text[1:-1])}]"
    except ValueError:
        return None


def _check_host(host: str, field: str) -> None:
    """Refuse an address that is not public or is oddly spelled, and what is no full host name."""
    labels = host.split(".")
    if host.startswith("["):
        public = is_public(IPv6Address(host[1:-1]))
    elif _NUMBER.fullmatch(labels[-1]):
        try:
            public = is_public(IPv4Address(host))
        except ValueError:
            public = False
    else:
        public = len(labels) > 1 and len(host) <= _MAX_NAME_CHARS and all(map(_LABEL.fullmatch, labels))
    if not public:
        raise not_public(field)


def not_public(field: str) -> UserInputError:
    """What a client is told whose host is refused, by name or by address."""
    return _refused(
        field, "its host is not a public one", "Use a full host name that resolves to public addresses only"
    )


def _refused(field: str, problem: str, remedy: str) -> UserInputError:
    return UserInputError("url_refused", field, problem, remedy)


def _wrong_scheme(field: str) -> UserInputError:
    return UserInputError("url_scheme", field, "the address is not an https address", "Use https://")
