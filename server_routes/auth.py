"""Who may call: holders of a bearer token, or, where no token is set, this machine only; and from which web pages."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from aiohttp import web

from ..nodes.errors import UserInputError
from .settings import Settings

_FORWARDED = ("Forwarded", "X-Forwarded-For", "X-Real-IP")
LOCAL = "local"
# In place of Authorization, for callers whose gateway keeps that header for a key of its own, as RunPod's does.
TOKEN_HEADER = "X-Flux-Face-Token"  # noqa: S105  (a header's name)


@dataclass(frozen=True)
class Caller:
    """Who sent a request.

    Attributes:
        name: of the token, or ``local`` where no token is needed.
        is_admin: whether all jobs are theirs to see, and downloads theirs to start.
    """

    name: str
    is_admin: bool

    def may_see(self, owner: str) -> bool:
        """Whether the jobs of that token are theirs to see."""
        return self.is_admin or self.name == owner


def authorise(request: web.Request, settings: Settings) -> Caller:
    """The sender.

    Raises:
        UserInputError: ``unauthorised`` for a stranger, ``origin_refused`` for a web page of another origin.
    """
    origin = request.headers.get("Origin")
    if origin is not None and not _is_own(origin, request) and origin.lower() not in settings.cors_origins:
        raise UserInputError(
            "origin_refused",
            "Origin",
            "web pages of this origin may not call",
            "The operator allows origins with FLUX_FACE_CORS_ORIGINS",
        )
    if not settings.tokens:
        if _is_local(request):
            return Caller(LOCAL, is_admin=True)
        raise UserInputError(
            "unauthorised",
            "Authorization",
            "without tokens this server takes jobs from its own machine only",
            "Set FLUX_FACE_API_TOKENS=name:token for ComfyUI and send the token",
        )
    given = _given_token(request)
    found = None
    for name, token in settings.tokens.items():  # all of them, so that the time tells nothing
        if hmac.compare_digest(token.encode(), given.encode(errors="surrogateescape")):
            found = name
    if found is None:
        raise UserInputError(
            "unauthorised",
            "Authorization",
            "the bearer token is missing or wrong",
            f"Send the header Authorization: Bearer <token>, or {TOKEN_HEADER}: <token>",
        )
    return Caller(found, is_admin=found in settings.admins)


def _given_token(request: web.Request) -> str:
    """The token that was sent, or an empty text, which no token is."""
    own = request.headers.get(TOKEN_HEADER)
    if own is not None:
        return own.strip()
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _is_own(origin: str, request: web.Request) -> bool:
    """Whether a page of this very server sent it."""
    return urlsplit(origin).netloc.lower() == request.headers.get("Host", "").lower()


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
