"""The OpenAPI document (https://spec.openapis.org/oas/v3.1.0), written from the route table and ``schemas``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from .auth import TOKEN_HEADER
from .routing import Access, Parameter, Route
from .schemas import reference, schemas
from .settings import Settings

VERSION = "1"
_DESCRIPTION = """\
Portraits with a user's face in them: Flux draws, the face is swapped in, the skin tone is judged, and only what failed
is drawn again. Verbs and shapes are those of RunPod's serverless API, so its Python client works when its base URL is
changed. Every error names a code, the field, the problem and the remedy. Answers may get new fields; ignore what you do
not know.
"""
_WITH_TOKENS = (
    "One of the operator's tokens. A job is its sender's own: other tokens do not see it, but an admin's does."
)
_IN_OWN_HEADER = "The same token, where a gateway in front keeps Authorization for a key of its own."
_WITHOUT_TOKENS = "No token is set, so this server takes requests from its own machine only."
_REFUSALS = {
    400: "The request is wrong: see code and field.",
    401: "The bearer token is missing or wrong.",
    403: "This token or web page may not do that.",
    404: "There is no such thing, or it has expired.",
    406: "The answer cannot be what the Accept header asks for.",
    408: "The body, or a photo's address, took too long.",
    409: "The request does not fit what is there already.",
    410: "What it needs is no longer in memory.",
    413: "The body or a photo is too large.",
    415: "The body or a photo is of a type that is not read.",
    429: "Too many jobs or requests.",
    500: "The server failed; its log says why.",
    503: "The server cannot do it now.",
}
_HEADERS = {
    401: {"WWW-Authenticate": {"description": "Bearer", "schema": {"type": "string"}}},
    429: {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "integer"}}},
}
_EVENTS = (
    "Events: status (state, position in the queue, progress) and, with input.preview, preview (a data URI) as they "
    "come, and at the end result, which is the job's Status."
)
# What an answer about a job says of the path parameters of other routes.
_LINKS = {"id": "$response.body#/id", "filename": "$response.body#/output/images/0/filename"}
_TOLD = {"Started": {"id"}, "Status": {"id", "filename"}}
_JOB_HEADER = {"Flux-Face-Job": {"description": "The job's id, beside a picture.", "schema": {"type": "string"}}}


def openapi_document(routes: Sequence[Route], settings: Settings, profiles: Collection[str]) -> dict[str, Any]:
    """The document of this server.

    Args:
        routes: the route table.
        settings: its limits become bounds of the input's fields; with tokens, one is required.
        profiles: the names of what can be run.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.base + route.path, {})[route.method.lower()] = _operation(route, routes)
    document: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "Flux Face",
            "version": VERSION,
            "description": _DESCRIPTION if settings.tokens else f"{_DESCRIPTION}\n{_WITHOUT_TOKENS}",
            "license": {"name": "GPL-3.0", "identifier": "GPL-3.0-only"},
        },
        "paths": paths,
        "components": {"schemas": schemas(settings, profiles)},
    }
    if settings.tokens:
        document["components"]["securitySchemes"] = {
            "token": {"type": "http", "scheme": "bearer", "description": _WITH_TOKENS},
            "header": {"type": "apiKey", "in": "header", "name": TOKEN_HEADER, "description": _IN_OWN_HEADER},
        }
        document["security"] = [{"token": []}, {"header": []}]
    return document


def _operation(route: Route, routes: Sequence[Route]) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.tag],
        "responses": {str(route.good): _good_answer(route)},
    }
    if route.parameters:
        operation["parameters"] = [_parameter(parameter) for parameter in route.parameters]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _body_content(route)}
    if route.access is Access.EVERYONE:
        operation["security"] = []
    if route.access is Access.ADMINS:
        operation["description"] = "For admins only."
    links = {other.name: link for other in routes if (link := _link(route, other)) is not None}
    if links:
        operation["responses"][str(route.good)]["links"] = links
    for code in route.also:
        operation["responses"][str(code)] = {**_good_answer(route), "description": _REFUSALS[code]}
    for code in sorted(_refusals(route)):
        operation["responses"][str(code)] = {
            "description": _REFUSALS[code],
            "content": {"application/json": {"schema": reference("Error")}},
            **({"headers": _HEADERS[code]} if code in _HEADERS else {}),
        }
    return operation


def _refusals(route: Route) -> set[int]:
    """The route's own, and what the gate answers."""
    codes = {*route.refusals, 500}
    if route.access is not Access.EVERYONE:
        codes |= {401, 403, 429}
    if route.body is not None or len(route.parameters) > len(_path_parameters(route)):
        codes.add(400)
    return codes


def _link(route: Route, other: Route) -> dict[str, Any] | None:
    """How the other route is asked for the job that this one answers with."""
    names = [parameter.name for parameter in _path_parameters(other)]
    if other is route or not names or not _TOLD.get(route.answer, set()).issuperset(names):
        return None
    return {"operationId": other.name, "parameters": {name: _LINKS[name] for name in names}}


def _path_parameters(route: Route) -> list[Parameter]:
    return [parameter for parameter in route.parameters if parameter.place == "path"]


def _parameter(parameter: Parameter) -> dict[str, Any]:
    written: dict[str, Any] = {
        "name": parameter.name,
        "in": parameter.place,
        "required": parameter.place == "path",
        "description": parameter.text,
        "schema": dict(parameter.schema),
    }
    if parameter.schema["type"] == "array":
        written.update(style="form", explode=False)
    return written


def _good_answer(route: Route) -> dict[str, Any]:
    texts: dict[str, dict[str, Any]] = {"text/event-stream": {"type": "string", "description": _EVENTS}}
    content = {
        kind: {"schema": reference(route.answer) if kind == "application/json" else texts.get(kind, {"type": "string"})}
        for kind in route.media_types
    }
    answer: dict[str, Any] = {"description": route.summary, "content": content}
    if "application/json" in content and "image/png" in content:
        answer["headers"] = _JOB_HEADER
    return answer


def _body_content(route: Route) -> dict[str, Any]:
    json_content: dict[str, Any] = {"schema": reference(route.body or "")}
    if route.example is not None:
        json_content["example"] = dict(route.example)
    content = {"application/json": json_content}
    if route.body == "Body":
        content["multipart/form-data"] = {"schema": reference("Form")}
    return content
