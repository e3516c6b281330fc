"""The OpenAPI document (https://spec.openapis.org/oas/v3.1.0), written from the route table and the request models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .downloads import DownloadBody
from .jobs import State
from .request import MAX_PRIORITY, MAX_SEED, SIDE_STEP, Body, JobInput
from .routing import Access, Route
from .settings import MOST_ATTEMPTS, Limits

VERSION = "1"
_SHARED_REFUSALS = (400, 401, 403, 429, 500)
_DESCRIPTION = """\
Portraits with a user's face in them: Flux draws, the face is swapped in, the skin tone is judged, and only what failed
is drawn again. Verbs and shapes are those of RunPod's serverless API, so its Python client works when its base URL is
changed. Every error names a code, the field, the problem and the remedy.
"""
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
    429: "Too many jobs or requests; Retry-After says when to come again.",
    500: "The server failed; its log says why.",
    503: "The server cannot take jobs now.",
}


def openapi_document(routes: Sequence[Route], limits: Limits) -> dict[str, Any]:
    """The document.

    Args:
        routes: the route table.
        limits: become bounds of the input's fields.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.base + route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Flux Face", "version": VERSION, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": {**_answers(), **_bodies(limits)},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _operation(route: Route) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": {str(route.good): _good_answer(route)},
    }
    if route.parameters:
        operation["parameters"] = [
            {
                "name": parameter.name,
                "in": parameter.place,
                "required": parameter.place == "path",
                "description": parameter.text,
                "schema": dict(parameter.schema),
            }
            for parameter in route.parameters
        ]
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _body_content(route.body)}
    if route.access is Access.EVERYONE:
        operation["security"] = []
    shared = () if route.access is Access.EVERYONE else _SHARED_REFUSALS
    for code in sorted({*shared, *route.refusals}):
        schema = route.answer if route.access is Access.EVERYONE else "Error"
        operation["responses"][str(code)] = {
            "description": _REFUSALS[code],
            "content": {"application/json": {"schema": _reference(schema)}},
        }
    return operation


def _good_answer(route: Route) -> dict[str, Any]:
    content = {
        kind: {"schema": _reference(route.answer) if kind == "application/json" else {"type": "string"}}
        for kind in route.media_types
    }
    return {"description": route.summary, "content": content}


def _body_content(body: str) -> dict[str, Any]:
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    form = {
        "type": "object",
        "properties": {
            "input": _reference("JobInput"),
            "policy": _reference("Policy"),
            "webhook": {"type": "string"},
            "user_photo": file,
            "target_image": file,
        },
        "additionalProperties": False,
    }
    content: dict[str, Any] = {"application/json": {"schema": _reference(body)}}
    if body == "Body":
        content["multipart/form-data"] = {"schema": form}
    return content


def _bodies(limits: Limits) -> dict[str, Any]:
    """The request models' schemas with the server's limits as bounds."""
    schema = Body.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas: dict[str, Any] = {**schema.pop("$defs"), "Body": schema}
    bounds: dict[str, dict[str, int]] = {
        "num_steps": {"minimum": 1, "maximum": limits.max_steps},
        "batch_size": {"minimum": 1, "maximum": limits.max_batch},
        "width": {"minimum": limits.min_side, "maximum": limits.max_side, "multipleOf": SIDE_STEP},
        "height": {"minimum": limits.min_side, "maximum": limits.max_side, "multipleOf": SIDE_STEP},
        "seed": {"minimum": 0, "maximum": MAX_SEED},
        "max_attempts": {"minimum": 1, "maximum": MOST_ATTEMPTS},
        "quality": {"minimum": 1, "maximum": 100},
        "prompt": {"minLength": 1, "maxLength": limits.max_prompt_chars},
    }
    _bound(schemas["JobInput"], bounds)
    _bound(
        schemas["Policy"],
        {
            "executionTimeout": {"minimum": 1000, "maximum": limits.job_seconds * 1000},
            "ttl": {"minimum": 1000, "maximum": limits.ttl_seconds * 1000},
            "priority": {"minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY},
        },
    )
    original = {name: schemas["JobInput"]["properties"][name] for name in ("target_image", "output_format", "quality")}
    schemas["OriginalBody"] = _object(
        {"input": _object({"source_image": schemas["JobInput"]["properties"]["user_photo"], **original}, closed=True)},
        closed=True,
    )
    schemas["DownloadBody"] = DownloadBody.model_json_schema()
    assert set(schemas["JobInput"]["properties"]) == set(JobInput.model_fields)
    return schemas


def _bound(schema: dict[str, Any], bounds: dict[str, dict[str, int]]) -> None:
    for name, found in bounds.items():
        field = schema["properties"][name]
        kinds = field.get("anyOf", [field])
        kinds[0].update(found)


def _answers() -> dict[str, Any]:
    text, number, whole, flag = ({"type": name} for name in ("string", "number", "integer", "boolean"))
    state = {"type": "string", "enum": [state.value for state in State]}
    picture = _object({"filename": text, "type": {"enum": ["base64", "url", "s3_url"]}, "data": text})
    pictures = {"type": "array", "items": picture}
    output = _object(
        {
            "images": pictures,
            "generated": pictures,
            "image": text,
            "profile": text,
            "seeds": {"type": "array", "items": whole},
            "qa": {"type": "array", "items": {"type": "object"}},
            "retry": {"type": "object"},
            "swap": {"type": "object"},
            "timings": {"type": "object"},
            "progress": {"type": "object"},
        },
        required=(),
    )
    job = {
        "id": text,
        "status": state,
        "delayTime": {**whole, "description": "Milliseconds in the queue."},
        "executionTime": {**whole, "description": "Milliseconds of running."},
        "error": {**text, "description": "[code] field: problem. Remedy."},
    }
    required = ("id", "status", "delayTime")
    summary = {
        **job, "profile": text, "created": number, "passed": {"type": ["integer", "null"]}
    }  # fmt: skip
    counts = _object(dict.fromkeys(("completed", "failed", "inProgress", "inQueue", "retried"), whole))
    profile = _object(
        {
            "name": text,
            "default": flag,
            "fields": {"type": "array", "items": text},
            "defaults": {"type": "object", "additionalProperties": whole},
        }
    )
    file = _object({"folder": text, "name": text, "size": {"type": ["integer", "null"]}})
    licence = _object({"key": text, "name": text, "link": text, "commercial": {"enum": ["yes", "no", "unknown"]}})
    model = _object(
        {
            "id": text,
            "state": {"enum": ["found", "missing", "wrong_size"]},
            "files": {"type": "array", "items": file},
            "download_bytes": {"type": ["integer", "null"]},
            "licence": licence,
            "must_be_accepted": flag,
            "gated": flag,
        }
    )
    names = {"type": "array", "items": text}
    received = _object({"file": text, "received": whole, "total": {"type": ["integer", "null"]}})
    download = {
        "state": {"enum": ["idle", "running", "completed", "failed", "cancelled"]},
        "models": names,
        "files": {"type": "array", "items": received},
        "errors": {"type": "array", "items": _object(dict.fromkeys(("code", "model", "problem", "remedy"), text))},
    }
    return {
        "Models": _object(
            {
                "sets": {"type": "object", "additionalProperties": names},
                "models": {"type": "array", "items": model},
            }
        ),
        "Download": _object(download),
        "Started": _object({"id": text, "status": state}),
        "Status": _object({**job, "output": output}, required=required),
        "Stream": _object({"status": state, "stream": {"type": "array", "items": {"type": "object"}}}),
        "Jobs": _object({"jobs": {"type": "array", "items": _object(summary, required=required)}}),
        "Purged": _object({"removed": whole, "status": text}),
        "Profiles": _object({"profiles": {"type": "array", "items": profile}}),
        "Health": _object({"jobs": counts, "workers": _object({"idle": whole, "running": whole})}),
        "Ready": _object(
            {
                "ready": flag,
                "reasons": {"type": "array", "items": text},
                "warm": flag,
                "jobs": whole,
                "running_ms": whole,
                "free_disk_bytes": whole,
            }
        ),
        "Document": {"type": "object"},
        "Error": _object({"error": _object(dict.fromkeys(("code", "field", "message", "remedy"), text))}),
    }


def _object(
    properties: dict[str, Any], *, required: Sequence[str] | None = None, closed: bool = False
) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": properties,
        "required": list(properties if required is None else required),
    }
    if closed:
        schema["additionalProperties"] = False
    return schema


def _reference(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
