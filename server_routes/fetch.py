"""Fetches a picture from an address that a client named."""

from __future__ import annotations

import asyncio

from aiohttp import ClientError, ClientResponse
from yarl import URL

from ..nodes.errors import UserInputError
from .addresses import AddressPolicy, AddressRefusedError, check_url, not_public, open_session

MAX_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_CHUNK_BYTES = 65_536


async def fetch_picture(url: str, field: str, policy: AddressPolicy, max_bytes: int, seconds: float) -> bytes:
    """The body at an address, at most ``max_bytes`` of it in at most ``seconds``, as it was sent.

    Messages hold neither the address nor what it resolves to.

    Args:
        url: as the client wrote it.
        field: the request's field that holds it.
        policy: what may be connected to, redirects included.
        max_bytes: more is an error as soon as it is known.
        seconds: for names, connections, redirects and body together.

    Raises:
        UserInputError: ``url_scheme``, ``url_refused``, ``url_unreachable``, ``url_status``, ``url_timeout`` or
            ``photo_too_large``.
    """
    target = check_url(url, field, policy)
    try:
        return await asyncio.wait_for(_fetch(target, field, policy, max_bytes), seconds)
    except asyncio.TimeoutError as error:
        raise UserInputError(
            "url_timeout",
            field,
            f"the picture did not arrive within {seconds:g} seconds",
            "Use a faster server, or send the picture itself",
        ) from error
    except AddressRefusedError as error:
        raise not_public(field) from error
    except (ClientError, OSError) as error:
        raise UserInputError(
            "url_unreachable",
            field,
            "the picture's server cannot be reached, has no valid certificate, or broke off",
            "Check the address, or send the picture itself",
        ) from error


async def _fetch(url: URL, field: str, policy: AddressPolicy, max_bytes: int) -> bytes:
    async with open_session(policy) as session:
        for _ in range(MAX_REDIRECTS + 1):
            async with session.get(url, headers={"Accept": "image/*"}, allow_redirects=False) as response:
                if response.status not in _REDIRECTS:
                    return await _read(response, field, max_bytes)
                url = _next_hop(url, response, field, policy)
    raise _unusable(field, f"the picture's server redirects more than {MAX_REDIRECTS} times")


def _next_hop(url: URL, response: ClientResponse, field: str, policy: AddressPolicy) -> URL:
    location = response.headers.get("Location")
    if location is None:
        raise _unusable(field, "the picture's server redirects to nowhere")
    try:
        written = str(url.join(URL(location, encoded=True)))
    except ValueError as error:
        raise _unusable(field, "the picture's server redirects to something that is no address") from error
    target = check_url(written, field, policy)
    if url.scheme == "https" and target.scheme != "https":
        raise UserInputError(
            "url_scheme", field, "the picture's server redirects from https to http", "Use another address"
        )
    return target


async def _read(response: ClientResponse, field: str, max_bytes: int) -> bytes:
    if response.status != 200:
        raise _unusable(field, f"the picture's server answers with status {response.status}")
    if response.headers.get("Content-Encoding", "identity").strip().lower() != "identity":
        raise _unusable(field, "the picture's server compresses its answer, unasked")
    too_large = UserInputError(
        "photo_too_large",
        field,
        f"the photo is over the limit of {max_bytes} bytes",
        "Use a smaller or more strongly compressed photo",
    )
    if response.content_length is not None and response.content_length > max_bytes:
        raise too_large
    body = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        body += chunk
        if len(body) > max_bytes:
            raise too_large
    return bytes(body)


def _unusable(field: str, problem: str) -> UserInputError:
    return UserInputError("url_status", field, problem, "Use an address that answers with the picture itself")
