"""Where jobs go: RunPod endpoints and servers of ours. Both answer POST run, GET status/ID and POST cancel/ID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote, urlsplit

from ..probe import ROUTES
from .errors import UsageError

RUNPOD_BASE = "https://api.runpod.ai/v2"
# The variable that moves RunPod's own SDK to another address.
RUNPOD_BASE_VARIABLE = "RUNPOD_ENDPOINT_BASE_URL"
RUNPOD_KEY_VARIABLE = "RUNPOD_API_KEY"
SERVER_TOKEN_VARIABLE = "FLUX_FACE_TOKEN"  # noqa: S105  (a variable's name)

# docs.runpod.io, "Send API requests": the payload of /run, and the requests per 10 s of each operation.
RUNPOD_BODY_BYTES = 10_000_000
_RUNPOD_PER_10_S = {"run": 1000, "status": 2000, "cancel": 100}
# Others may use the same endpoint.
_SHARE = 0.8


@dataclass(frozen=True)
class Target:
    """One place that takes jobs.

    Attributes:
        name: ``endpoint:ID`` or ``server:URL``; what state file and report call it.
        url: what ``/run`` is appended to.
        token: bearer token, never shown.
        max_body_bytes: largest body of ``/run``; None where the target says so itself.
        pace_s: least seconds between two requests, by operation; empty where there is no limit.
    """

    name: str
    url: str
    token: str | None = field(default=None, repr=False)
    max_body_bytes: int | None = None
    pace_s: Mapping[str, float] = field(default_factory=dict)


def endpoint(endpoint_id: str, env: Mapping[str, str]) -> Target:
    """A RunPod endpoint.

    Raises:
        UsageError: the id cannot be one, or there is no key.
    """
    if not endpoint_id or quote(endpoint_id, safe="-") != endpoint_id:
        raise UsageError(
            f"--endpoint {endpoint_id!r} is not an endpoint's id",
            "Copy the id from RunPod's console, without an address",
        )
    token = env.get(RUNPOD_KEY_VARIABLE, "").strip()
    if not token:
        raise UsageError(
            f"--endpoint needs a key and {RUNPOD_KEY_VARIABLE} is not set", "Set it to your RunPod API key"
        )
    base = env.get(RUNPOD_BASE_VARIABLE, "").strip() or RUNPOD_BASE
    return Target(
        name=f"endpoint:{endpoint_id}",
        url=f"{_address(RUNPOD_BASE_VARIABLE, base)}/{endpoint_id}",
        token=token,
        max_body_bytes=RUNPOD_BODY_BYTES,
        pace_s={operation: 10 / (limit * _SHARE) for operation, limit in _RUNPOD_PER_10_S.items()},
    )


def server(url: str, env: Mapping[str, str]) -> Target:
    """A ComfyUI with our routes.

    Raises:
        UsageError: the address cannot be used.
    """
    address = _address("--server", url)
    return Target(
        name=f"server:{address}", url=address + ROUTES, token=env.get(SERVER_TOKEN_VARIABLE, "").strip() or None
    )


def _address(option: str, url: str) -> str:
    parts = urlsplit(url)
    try:
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if parts.username or parts.password:
        # Without the address: it holds a secret.
        raise UsageError(f"{option} has a user name in its address", f"Give a token in {SERVER_TOKEN_VARIABLE}")
    if not usable or parts.query or parts.fragment:
        raise UsageError(f"{option} {url!r} is not an address", "Give one such as http://127.0.0.1:8188")
    return url.rstrip("/")
