"""The OpenAPI document, and the real server called with what the document allows and forbids."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from PIL import Image

from flux_face.server_routes.routing import STATUS_CODES
from flux_face.tests.comfy_server import Comfy
from flux_face.tests.routes.client import BASE, as_base64, encode
from flux_face.tests.routes.conftest import ADMIN, TOKENS, start_server

ENVIRONMENT = {
    "FLUX_FACE_API_TOKENS": f"alice:{TOKENS['alice']},ops:{ADMIN}",
    "FLUX_FACE_ADMINS": "ops",
    "FLUX_FACE_MAX_SIDE": "128",
    "FLUX_FACE_MAX_BATCH": "2",
    "FLUX_FACE_REQUESTS_PER_MINUTE": "1000000",
    "FLUX_FACE_JOBS_PER_MINUTE": "1000000",
    "HF_ENDPOINT": "http://127.0.0.1:9",  # where nothing listens
}
PHOTOS = [
    as_base64(encode(Image.new("RGB", (24, 16), (120, 90, 70)))),
    "data:image/jpeg;base64," + as_base64(encode(Image.new("RGB", (9, 9), (90, 60, 50)), "JPEG")),
    as_base64(encode(Image.new("RGB", (8, 8), (200, 170, 150)), "WEBP")),
]
ANY_PROFILE = ("output_format", "quality", "include_generated", "preview")
SUBMITTING = ("/run", "/runsync", "/faceswap", "/qa", "/runpod")
Schema = dict[str, Any]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    """One with tokens, small pictures and no limit of rates; it connects to nothing."""
    with start_server(tmp_path_factory.mktemp("spec"), ENVIRONMENT) as running:
        yield running


@pytest.fixture(scope="module")
def document(server: Comfy) -> Schema:
    found: Schema = server.get(f"{BASE}/openapi.json")
    return found


def operations(document: Schema) -> Iterator[tuple[str, str, Schema]]:
    """Method, path and operation."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


def pick(schema: Schema, *names: str, **others: Schema) -> Schema:
    """An object with some of a schema's properties and others, which are required; nothing else is allowed."""
    properties = {name: schema["properties"][name] for name in names} | others
    return {"type": "object", "properties": properties, "required": list(others), "additionalProperties": False}


def runnable(document: Schema) -> Schema:
    """The document with inputs that this server's trivial profiles run, so that what it allows must be accepted.

    Answers are closed: a field that the document does not know is a failure.
    """
    narrow = copy.deepcopy(document)
    # One way to send the token: wrong ones in the other header would keep most calls from getting further.
    narrow["security"] = [{"token": []}]
    del narrow["components"]["securitySchemes"]["header"]
    schemas = narrow["components"]["schemas"]
    full = schemas["JobInput"]
    ways = {"images_as": {"enum": ["base64", "url", "none", None]}}
    tiny = pick(full, *ANY_PROFILE, "width", "height", "batch_size", profile={"const": "tiny"})
    photo = pick(full, *ANY_PROFILE, profile={"const": "photo"}, user_photo={"enum": PHOTOS})
    failing = pick({}, profile={"const": "raise"})
    for schema in (tiny, photo):
        schema["properties"].update(ways)
    schemas["JobInput"] = {"oneOf": [tiny, photo, failing]}
    schemas["Body"] = pick(schemas["Body"], "policy", input=schemas["JobInput"])
    schemas["Form"] = pick(schemas["Form"], "policy", input=tiny)
    swap = {"enum": PHOTOS}
    schemas["OriginalBody"] = pick({}, input=pick(full, "output_format", source_image=swap, target_image=swap))
    schemas["DownloadBody"]["properties"]["models"]["items"] = {"enum": ["no-such-model"]}
    for _, path, operation in operations(narrow):
        if not path.endswith("/run"):  # few different keys are made, and a second use of one runs nothing
            parameters = operation.get("parameters", [])
            operation["parameters"] = [one for one in parameters if one["name"] != "Idempotency-Key"]
        for content in operation.get("requestBody", {}).get("content", {}).values():
            content.pop("example", None)
    for name, schema in schemas.items():
        if name not in ("JobInput", "Body", "Form", "OriginalBody", "Document"):
            close(schema)
    return narrow


def close(schema: Any) -> None:
    """Allow no other properties, at any depth."""
    if isinstance(schema, list):
        for part in schema:
            close(part)
    elif isinstance(schema, dict):
        if "properties" in schema:
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            close(part)


def test_the_document_is_valid(document: Schema) -> None:
    assert list(OpenAPIV31SpecValidator(document).iter_errors()) == []
    assert document["openapi"].startswith("3.1.")


def test_it_names_every_route_and_no_other(server: Comfy, document: Schema) -> None:
    registered = {
        (method, path)
        for method, path in server.get("/test-routes")
        if path.startswith((BASE, "/runpod")) and method != "HEAD"  # which aiohttp adds to every GET
    }
    assert registered == {(method, path) for method, path, _ in operations(document)}
    assert len({operation["operationId"] for _, _, operation in operations(document)}) == len(registered)


def test_every_error_has_a_documented_status(document: Schema) -> None:
    documented = {code for _, _, operation in operations(document) for code in operation["responses"]}
    assert {str(status) for status in STATUS_CODES.values()} <= documented


def test_its_bounds_are_the_servers(document: Schema) -> None:
    schemas = document["components"]["schemas"]
    fields = schemas["JobInput"]["properties"]
    width = fields["width"]["anyOf"][0]
    assert (width["minimum"], width["maximum"], width["multipleOf"]) == (64, 128, 16)
    assert fields["batch_size"]["anyOf"][0]["maximum"] == 2
    assert {"tiny", "photo", "flux1-schnell-gguf"} <= set(fields["profile"]["anyOf"][0]["enum"])
    assert document["paths"][f"{BASE}/ready"]["get"]["responses"]["503"]["content"] == {
        "application/json": {"schema": {"$ref": "#/components/schemas/Ready"}}
    }


def test_it_asks_for_a_token_where_one_is_needed(document: Schema, api_server: Comfy) -> None:
    assert document["security"] == [{"token": []}, {"header": []}]
    open_to_all = {path for _, path, operation in operations(document) if operation.get("security") == []}
    assert open_to_all == {f"{BASE}/{name}" for name in ("health", "ready", "openapi.json", "docs")}
    local = api_server.get(f"{BASE}/openapi.json")
    assert "security" not in local
    assert "securitySchemes" not in local["components"]


CONFIG = f"""\
# Stop at no failure, and do the same every time.
continue-on-failure = true
request-timeout = 60
[generation]
max-examples = 80
deterministic = true
database = "none"
[headers]
Authorization = "Bearer {ADMIN}"
[checks.unsupported_method]
# ComfyUI answers GET with the web page's files wherever nothing else does: 404 instead of 405.
enabled = false
"""


@pytest.mark.timeout(600)
def test_the_server_does_what_the_document_says(
    server: Comfy, document: Schema, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """Schemathesis: valid and invalid calls of every route by itself, and of one with another's answer.

    All its checks but one: no 5xx; status, type, headers and schema of answers; what is valid is accepted and what is
    not is refused; no route forgets to ask for the token. About 800 start a job.
    """
    (tmp_path / "openapi.json").write_text(json.dumps(runnable(document)))
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml", "run", "openapi.json"]
    command += ["--url", server.url, "--no-color", "--warnings", "off", "--report", "ndjson", "--report-dir", "report"]
    direct = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    done = subprocess.run(command, cwd=tmp_path, env=direct, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    calls = counted_calls(server)
    for route in SUBMITTING:
        accepted, refused = calls[route, "200"], calls[route, "400"]
        record_property(f"{route} accepted, refused", (accepted, refused))
        assert accepted >= 50, "else the narrowed document does not reach what it should"
        assert refused >= 50
    for route in ("/status/{id}", "/stream/{id}", "/cancel/{id}", "/retry/{id}", "/image/{id}/{filename}"):
        assert calls[route, "200"] >= 3, "followed from another route's answer"
    assert not [call for call in calls if call[1].startswith("5")]
    assert calls["/models/download", "202"] == 0, "no name of a real model is made up, so nothing is fetched"


def counted_calls(server: Comfy) -> Counter[tuple[str, str]]:
    """How often each route has answered with each status code."""
    request = urllib.request.Request(f"{server.url}{BASE}/metrics", headers={"Authorization": f"Bearer {ADMIN}"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        lines = answer.read().decode()
    pattern = r'flux_face_requests_total\{route="([^"]+)",code="(\d+)"\} (\d+)'
    return Counter({(route, code): int(count) for route, code, count in re.findall(pattern, lines)})
