"""Request bodies as they come over the wire: JSON, or a form whose files are raw pictures; bounded in size and time."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import BodyPartReader, hdrs, web
from pydantic import BaseModel, ConfigDict, Field

from ..nodes.errors import UserInputError
from .settings import Limits

_JSON_PARTS = ("input", "policy")
_MOST_PARTS = 16


@dataclass(frozen=True)
class Submission:
    """A request's body, not looked into yet.

    Attributes:
        json: text of the body object, ``{"input": {...}}``.
        files: pictures that came beside it, by request field.
    """

    json: bytes = field(repr=False)
    files: Mapping[str, bytes] = field(default_factory=dict, repr=False)

    def digest(self) -> str:
        """Tells two submissions apart. Slow for large ones: call it off the event loop."""
        total = hashlib.sha256(self.json)
        for name in sorted(self.files):
            total.update(b"\0" + name.encode() + b"\0" + hashlib.sha256(self.files[name]).digest())
        return total.hexdigest()


class WatchBody(BaseModel):
    """The body of ``POST /watch``."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    client_id: str = Field(
        min_length=1, max_length=200, description="The clientId that you connected to ComfyUI's /ws with."
    )


async def read_submission(request: web.Request, limits: Limits) -> Submission:
    """Read the body.

    A form has the parts ``input`` and ``policy``, each a JSON object, ``webhook``, a text, and files named after photo
    fields.

    Raises:
        UserInputError: ``body_type``, ``body_too_large``, ``body_timeout``, ``body_form``, ``body_cut_off``.
    """
    try:
        return await asyncio.wait_for(_read(request, limits), limits.body_seconds)
    except asyncio.TimeoutError as error:
        raise UserInputError(
            "body_timeout",
            "body",
            f"the body did not arrive within {limits.body_seconds} seconds",
            "Send a smaller photo or use a faster connection",
        ) from error
    except ConnectionError as error:
        raise UserInputError(
            "body_cut_off", "body", "the connection ended before the body did", "Send the request again"
        ) from error


async def _read(request: web.Request, limits: Limits) -> Submission:
    if request.content_length is not None and request.content_length > limits.max_body_bytes:
        raise _too_large(limits)
    if request.content_type == "application/json":
        return Submission(await _read_json(request, limits))
    if request.content_type == "multipart/form-data":
        try:
            return await _read_form(request, limits)
        except UserInputError:
            raise
        except (ValueError, AssertionError) as error:  # what aiohttp's reader raises on malformed forms
            raise _bad_form("it is malformed") from error
    raise UserInputError(
        "body_type",
        "Content-Type",
        f"the content type is {request.content_type[:100]!r}",
        "Send JSON with Content-Type: application/json, or multipart/form-data",
    )


async def _read_json(request: web.Request, limits: Limits) -> bytes:
    """The whole body, given up as soon as it is known to be too large."""
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > limits.max_body_bytes:
            raise _too_large(limits)
    return bytes(body)


async def _read_form(request: web.Request, limits: Limits) -> Submission:
    body: dict[str, Any] = {}
    files: dict[str, bytes] = {}
    left = limits.max_body_bytes
    reader = await request.multipart()
    for _ in range(_MOST_PARTS):
        part = await reader.next()
        if part is None:
            body.setdefault("input", {})
            return Submission(json.dumps(body, sort_keys=True).encode(), files)
        if not isinstance(part, BodyPartReader) or not part.name:
            raise _bad_form("a part has no name")
        if part.headers.get(hdrs.CONTENT_ENCODING) or part.headers.get(hdrs.CONTENT_TRANSFER_ENCODING):
            raise _bad_form("a part is encoded")
        data = await _read_part(part, left, limits)
        left -= len(data)
        if part.name in body or part.name in files:
            raise _bad_form(f"the part {part.name[:100]!r} comes twice")
        if part.name in _JSON_PARTS:
            body[part.name] = _part_json(part.name, data)
        elif part.name == "webhook":
            body[part.name] = data.decode("utf-8")
        else:
            files[part.name] = data
    raise _bad_form(f"it has more than {_MOST_PARTS} parts")


async def _read_part(part: BodyPartReader, left: int, limits: Limits) -> bytes:
    data = bytearray()
    while chunk := await part.read_chunk(65_536):
        data += chunk
        if len(data) > left:
            raise _too_large(limits)
    return bytes(data)


def _part_json(name: str, data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise UserInputError("body_not_json", name, "the part is not valid JSON", "Send a JSON object") from error


def _too_large(limits: Limits) -> UserInputError:
    return UserInputError(
        "body_too_large", "body", f"the body is over the limit of {limits.max_body_bytes} bytes", "Send a smaller photo"
    )


def _bad_form(problem: str) -> UserInputError:
    return UserInputError(
        "body_form",
        "body",
        f"the form cannot be read: {problem}",
        "Send parts named input, policy, webhook, user_photo",
    )
