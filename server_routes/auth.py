"""Who may call: holders of a bearer token, or, where no token is set, this machine only."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping

from aiohttp import web

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")


def caller(request: web.Request, tokens: Mapping[str, str]) -> str | None:
    """The name of the token's holder, ``"local"`` where no token is needed, or None for a stranger."""
    if not tokens:
        return "local" if _is_local(request) else None
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    found = None
    for name, token in tokens.items():  # all of them, so that the time tells nothing
        if hmac.compare_digest(token.encode(), given.strip().encode(errors="surrogateescape")):
            found = name
    return found


def _is_local(request: web.Request) -> bool:
    """Straight from this machine: not through a proxy, and not a page that rebound its name to 127.0.0.1."""
    if any(header in request.headers for header in _FORWARDED):
        return False
    return _is_loopback(request.remote or "") and _is_loopback(_host(request))


def _host(request: web.Request) -> str:
    host = request.headers.get("Host", "")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_loopback(name: str) -> bool:
    if name == "localhost":
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
