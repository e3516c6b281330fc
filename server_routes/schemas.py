"""What goes over the wire, as JSON Schema: the OpenAPI document's components, by the names that routes call them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from .bodies import WatchBody
from .downloads import DownloadBody
from .jobs import State
from .request import MAX_PRIORITY, MAX_SEED, SIDE_STEP
from .request_models import Body
from .settings import MOST_ATTEMPTS, Settings

_TEXT: Mapping[str, Any] = {"type": "string"}
_NUMBER: Mapping[str, Any] = {"type": "number"}
_WHOLE: Mapping[str, Any] = {"type": "integer"}
_FLAG: Mapping[str, Any] = {"type": "boolean"}
_COUNT: Mapping[str, Any] = {"type": "integer", "minimum": 0}
_OPTIONAL_NUMBER: Mapping[str, Any] = {"type": ["number", "null"]}


def reference(name: str) -> dict[str, str]:
    """To a schema of ``components``."""
    return {"$ref": f"#/components/schemas/{name}"}


def schemas(settings: Settings, profiles: Collection[str]) -> dict[str, Any]:
    """All components by name.

    Args:
        settings: its limits become bounds of the input's fields.
        profiles: names that ``profile`` may have.
    """
    return {**_bodies(settings, profiles), **_jobs(), **_models(), **_server()}


def _bodies(settings: Settings, profiles: Collection[str]) -> dict[str, Any]:
    limits = settings.limits
    body = Body.model_json_schema(ref_template="#/components/schemas/{model}")
    found: dict[str, Any] = {**body.pop("$defs"), "Body": body}
    found |= {model.__name__: model.model_json_schema() for model in (DownloadBody, WatchBody)}
    for model in found.values():
        del model["description"]  # the docstring: for readers of the code
    sides = {"minimum": limits.min_side, "maximum": limits.max_side, "multipleOf": SIDE_STEP}
    photos = f" At most {limits.max_photo_bytes} bytes and {limits.max_photo_pixels} pixels."
    _bound(
        found["JobInput"],
        {
            "user_photo": {"description": photos},
            "target_image": {"description": photos},
            "prompt": {"minLength": 1, "maxLength": limits.max_prompt_chars},
            "num_steps": {"minimum": 1, "maximum": limits.max_steps},
            "batch_size": {
                "minimum": 1,
                "maximum": limits.max_batch,
                "description": f" width x height x batch_size is at most {limits.max_total_pixels}.",
            },
            "width": sides,
            "height": sides,
            "seed": {"minimum": 0, "maximum": MAX_SEED},
            "profile": {
                "enum": sorted(profiles),
                "description": f" Where a request names none, it is {settings.default_profile}.",
            },
            "max_attempts": {"minimum": 1, "maximum": MOST_ATTEMPTS},
            "quality": {"minimum": 1, "maximum": 100},
        },
    )
    _bound(
        found["Policy"],
        {
            "executionTimeout": {"minimum": 1000, "maximum": limits.job_seconds * 1000},
            "ttl": {"minimum": 1000, "maximum": limits.ttl_seconds * 1000},
            "priority": {"minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY},
        },
    )
    fields = found["JobInput"]["properties"]
    original = {
        "source_image": {**fields["user_photo"], "title": "Source Image"},
        **{name: fields[name] for name in ("target_image", "output_format", "quality")},
    }
    found["OriginalBody"] = {
        **_object(
            {"input": {**_object(original, required=("source_image", "target_image")), "additionalProperties": False}}
        ),
        "additionalProperties": False,
    }
    file = {"type": "string", "contentMediaType": "application/octet-stream"}
    found["Form"] = {
        **_object(
            {
                "input": reference("JobInput"),
                "policy": reference("Policy"),
                "webhook": {**_TEXT, "description": body["properties"]["webhook"]["description"]},
                "user_photo": {**file, "description": "The photo's file."},
                "target_image": {**file, "description": "The picture's file."},
            },
            required=(),
        ),
        "additionalProperties": False,
    }
    return found


def _bound(schema: dict[str, Any], bounds: Mapping[str, Mapping[str, Any]]) -> None:
    for name, given in bounds.items():
        field = schema["properties"][name]
        bound = dict(given)
        field["description"] += bound.pop("description", "")
        field.get("anyOf", [field])[0].update(bound)


def _jobs() -> dict[str, Any]:
    picture = {
        **_object({"filename": _TEXT, "type": {"enum": ["base64", "url", "s3_url"]}, "data": _TEXT}),
        "description": "As worker-comfyui returns it. data is base64, a path on this server, or a link that opens it "
        "for a week.",
    }
    reason = _object(
        {
            "code": _TEXT,
            "message": _TEXT,
            "measured": _OPTIONAL_NUMBER,
            "low": _OPTIONAL_NUMBER,
            "high": _OPTIONAL_NUMBER,
        }
    )
    verdict = {
        "passed": _FLAG,
        "score": {**_NUMBER, "description": "0 to 1, at least 0.5 where it passed."},
        "reasons": _list(reason),
        "measured": {"type": "object", "additionalProperties": _NUMBER},
    }
    attempt = _object({"attempt": _WHOLE, "seed": _WHOLE, **verdict})
    item = _object(
        {
            "item": _COUNT,
            "passed": _FLAG,
            "score": _NUMBER,
            "attempt": _WHOLE,
            "seed": _WHOLE,
            "batch_index": _COUNT,
            "attempts": _list(attempt),
        }
    )
    retry = _object(
        {
            "max_attempts": _WHOLE,
            "attempts": _WHOLE,
            "images_sampled": _COUNT,
            "passed": _COUNT,
            "items": _list(item),
        }
    )
    milliseconds = dict.fromkeys(("ms", "ms_detect", "ms_swap", "ms_paste", "ms_compare"), _NUMBER)
    swapped = _object(
        {
            "faces": _COUNT,
            "swapped": _COUNT,
            "numbers": _list(_WHOLE),
            "identities": _list(_WHOLE),
            "similarity_before": _list(_NUMBER),
            "similarity": _list(_NUMBER),
            **milliseconds,
        }
    )
    timings = _object(
        {
            "queue_ms": _WHOLE,
            "execution_ms": _WHOLE,
            "encode_ms": _WHOLE,
            "nodes_ms": {"type": "object", "additionalProperties": _WHOLE, "description": "By node of the graph."},
        }
    )
    output = _object(
        {
            "images": _list(reference("Picture")),
            "generated": {**_list(reference("Picture")), "description": "Before the swap, with include_generated."},
            "image": {**_TEXT, "description": "data of the first picture; from /runpod only."},
            "profile": _TEXT,
            "seeds": {**_list(_WHOLE), "description": "The seed that each picture came from."},
            "qa": {**_list(_object(verdict)), "description": "The verdict on each picture."},
            "retry": retry,
            "swap": _object({"engine": _TEXT, "provider": _TEXT, "images": _list(swapped)}),
            "timings": timings,
        },
        required=("profile", "timings"),
    )
    progress = _object(
        {
            "node": {**_TEXT, "description": "The node of the graph that runs."},
            "class_type": _TEXT,
            "attempt": {**_WHOLE, "description": "1 for the first."},
            "value": {**_NUMBER, "description": "The node's step."},
            "max": {**_NUMBER, "description": "Of as many."},
        },
        required=(),
    )
    job = {"id": _TEXT, "delayTime": {**_COUNT, "description": "Milliseconds in the queue."}}
    execution = {**_COUNT, "description": "Milliseconds of running."}
    error = {**_TEXT, "description": "[code] field: problem. Remedy."}

    def status(states: Sequence[State], optional: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
        needed = {**job, "status": {"enum": [state.value for state in states]}, **fields}
        return _object({**needed, **optional}, required=tuple(needed))

    states = {
        "Waiting": status([State.IN_QUEUE], {}),
        "Running": status(
            [State.IN_PROGRESS],
            {"output": _object({"progress": reference("Progress")})},
            executionTime=execution,
        ),
        "Completed": status(
            [State.COMPLETED],
            {"error": {**_TEXT, "description": "[result_gone]: its pictures are not kept any longer."}},
            executionTime=execution,
            output=reference("Output"),
        ),
        "Ended": status([State.FAILED, State.CANCELLED, State.TIMED_OUT], {"executionTime": execution}, error=error),
    }
    summary = _object(
        {
            "id": _TEXT,
            "status": reference("State"),
            "profile": _TEXT,
            "created": {**_NUMBER, "description": "Seconds since 1970."},
            "delayTime": _COUNT,
            "passed": {"type": ["integer", "null"], "description": "Pictures that passed QA; null without QA."},
            "position": {**_COUNT, "description": "Jobs before it, while it waits."},
            "progress": reference("Progress"),
            "executionTime": execution,
            "error": error,
        },
        required=("id", "status", "profile", "created", "delayTime", "passed"),
    )
    return {
        "State": {"type": "string", "enum": [state.value for state in State]},
        "Picture": picture,
        "Output": output,
        "Progress": progress,
        **states,
        "Status": {"oneOf": [reference(name) for name in states]},
        "Started": _object({"id": _TEXT, "status": reference("State")}),
        "Stream": _object(
            {"status": reference("State"), "stream": _list(_object({"output": reference("Progress")}))}
        ),
        "Jobs": _object({"jobs": _list(summary)}),
        "Watching": _object(
            {"caller": {**_TEXT, "description": "Name of your token; local where none is needed."}, "admin": _FLAG}
        ),
        "Purged": _object({"removed": _COUNT, "status": {"const": "completed"}}),
    }  # fmt: skip


def _models() -> dict[str, Any]:
    size = {"type": ["integer", "null"], "description": "Bytes, where they are known."}
    licence = _object({"key": _TEXT, "name": _TEXT, "link": _TEXT, "commercial": {"enum": ["yes", "no", "unknown"]}})
    model = _object(
        {
            "id": _TEXT,
            "state": {"enum": ["found", "missing", "wrong_size"]},
            "files": _list(_object({"folder": _TEXT, "name": _TEXT, "size": size})),
            "download_bytes": size,
            "address": {**_TEXT, "description": "Where it is downloaded from."},
            "licence": licence,
            "must_be_accepted": {**_FLAG, "description": "Name the licence's key in accept_licences."},
            "gated": {**_FLAG, "description": "Its publisher wants a token of yours."},
        }
    )
    received = _object({"file": _TEXT, "received": _COUNT, "total": size})
    return {
        "Models": _object(
            {"sets": {"type": "object", "additionalProperties": _list(_TEXT)}, "models": _list(model)}
        ),
        "Download": _object(
            {
                "state": {"enum": ["idle", "running", "completed", "failed", "cancelled"]},
                "models": _list(_TEXT),
                "files": _list(received),
                "errors": _list(_object(dict.fromkeys(("code", "model", "problem", "remedy"), _TEXT))),
            }
        ),
    }  # fmt: skip


def _server() -> dict[str, Any]:
    profile = _object(
        {
            "name": _TEXT,
            "default": {**_FLAG, "description": "Whether it runs where a request names none."},
            "fields": {**_list(_TEXT), "description": "The input fields that its graph has a place for."},
            "defaults": {"type": "object", "additionalProperties": _WHOLE},
        }
    )
    counts = _object(dict.fromkeys(("completed", "failed", "inProgress", "inQueue", "retried"), _COUNT))
    finding = _object(
        {
            "name": {**_TEXT, "description": "What was looked at."},
            "level": {"enum": ["ok", "warn", "fail"]},
            "what": _TEXT,
            "remedy": {**_TEXT, "description": "What to do; empty where there is nothing."},
        }
    )
    return {
        "Profiles": _object({"profiles": _list(profile)}),
        "Health": _object({"jobs": counts, "workers": _object({"idle": _COUNT, "running": _COUNT})}),
        "Ready": _object(
            {
                "ready": _FLAG,
                "reasons": {**_list(_TEXT), "description": "Why not; empty where it is."},
                "warm": _FLAG,
                "jobs": {**_COUNT, "description": "Waiting and running."},
                "running_ms": {**_COUNT, "description": "Age of the running job."},
                "free_disk_bytes": _COUNT,
            }
        ),
        "Doctor": _object({"healthy": {**_FLAG, "description": "Nothing failed."}, "findings": _list(finding)}),
        "Document": {"type": "object"},
        "Error": _object(
            {
                "error": _object(
                    {
                        "code": {**_TEXT, "description": "Stable; docs/api.md lists them."},
                        "field": {**_TEXT, "description": "What is wrong."},
                        "message": {**_TEXT, "description": "field: problem. Remedy."},
                        "remedy": {**_TEXT, "description": "What to do about it."},
                    }
                )
            }
        ),
    }


def _object(properties: Mapping[str, Any], *, required: Sequence[str] | None = None) -> dict[str, Any]:
    needed = list(properties if required is None else required)
    return {"type": "object", "properties": dict(properties), **({"required": needed} if needed else {})}


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(items)}
