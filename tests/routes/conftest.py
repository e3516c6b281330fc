"""Servers for the routes' tests: one as it comes, one with tokens and tight limits, one with all that can be on."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import boto3
import pytest
import pytest_asyncio

from flux_face.tests.catalogue.hub import Hub
from flux_face.tests.comfy_server import Comfy
from flux_face.tests.routes.client import Client
from flux_face.tests.routes.peers import Peer, peer

ROOT = Path(__file__).resolve().parents[2]
COMFYUI = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI")
STARTER_MODELS = ROOT / ".comfyui" / "base" / "models"

TOKENS = {"alice": "alice-0123456789abcdef", "bob": "bob-0123456789abcdef"}
TIGHT = {
    "FLUX_FACE_API_TOKENS": ",".join(f"{name}:{token}" for name, token in TOKENS.items()),
    "FLUX_FACE_MAX_BODY_BYTES": "20000",
    "FLUX_FACE_MAX_PHOTO_BYTES": "10000",
    "FLUX_FACE_BODY_SECONDS": "2",
    "FLUX_FACE_MAX_QUEUE": "3",
    "FLUX_FACE_MAX_RESULTS": "5",
    "FLUX_FACE_MAX_TOTAL_PIXELS": "40000",
}

ADMIN = "ops-0123456789abcdef"
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ORIGIN = "https://studio.example"
# Not one of test_storage.py: moto keeps the buckets of all its servers in one place.
BUCKET = "results"
WIDE = {
    "FLUX_FACE_API_TOKENS": f"{TIGHT['FLUX_FACE_API_TOKENS']},ops:{ADMIN}",
    "FLUX_FACE_ADMINS": "ops",
    "FLUX_FACE_RAW_GRAPHS": "true",
    "FLUX_FACE_URL_INPUTS": "true",
    "FLUX_FACE_WEBHOOK_SECRETS": WEBHOOK_SECRET,
    "FLUX_FACE_CORS_ORIGINS": ORIGIN,
    "FLUX_FACE_WARM_UP": "starter",
    "BUCKET_ACCESS_KEY_ID": "key",
    "BUCKET_SECRET_ACCESS_KEY": "secret",
    "BUCKET_NAME": BUCKET,
}

_IMAGE = {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 1, "color": 0x336699}}
_PHOTO = {"class_type": "FluxFaceLoadPhoto", "inputs": {"photo": "example.png"}}
_LOST = {"class_type": "VAELoader", "inputs": {"vae_name": "lost.safetensors"}}


def _between(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": {"images": ["image", 0], **inputs}}


def _output(source: str) -> dict[str, Any]:
    return {"class_type": "FluxFaceJobOutput", "inputs": {"images": [source, 0], "job_id": ""}}


PROFILES: dict[str, dict[str, Any]] = {
    "tiny": {"image": _IMAGE, "output": _output("image")},
    "photo": {"photo": _PHOTO, "output": _output("photo")},
    "two": {
        "photo": {**_PHOTO, "_meta": {"title": "user_photo"}},
        "target": {**_PHOTO, "_meta": {"title": "target_image"}},
        "both": {"class_type": "ImageBatch", "inputs": {"image1": ["photo", 0], "image2": ["target", 0]}},
        "output": _output("both"),
    },
    # Its prompt goes nowhere: it is there to be kept secret.
    "letter": {
        "photo": _PHOTO,
        "words": {"class_type": "CLIPTextEncode", "inputs": {"text": "", "clip": ""}},
        "output": _output("photo"),
    },
    "sleep": {"image": _IMAGE, "between": _between("TestSleep", seconds=120.0), "output": _output("between")},
    "nap": {"image": _IMAGE, "between": _between("TestSleep", seconds=1.5), "output": _output("between")},
    "kill": {"image": _IMAGE, "kill": _between("TestKill"), "output": _output("kill")},
    "raise": {"image": _IMAGE, "between": _between("TestRaise"), "output": _output("between")},
    "exit": {
        "image": _IMAGE,
        "between": _between("TestSleep", seconds=1.0),
        "exit": {"class_type": "TestExit", "inputs": {"images": ["between", 0]}},
        "output": _output("exit"),
    },
    "no-vae": {
        "image": _IMAGE,
        "vae": _LOST,
        "latent": {"class_type": "VAEEncode", "inputs": {"pixels": ["image", 0], "vae": ["vae", 0]}},
        "decode": {"class_type": "VAEDecode", "inputs": {"samples": ["latent", 0], "vae": ["vae", 0]}},
        "output": _output("decode"),
    },
    "no-node": {"image": {"class_type": "NowhereToBeFound", "inputs": {}}, "output": _output("image")},
}


def start_server(base: Path, env: dict[str, str]) -> Comfy:
    """A server with the profiles above; ``base`` as in ``Comfy.start``."""
    folder = base / "api"
    (folder / "profiles").mkdir(parents=True, exist_ok=True)
    for name, graph in PROFILES.items():
        (folder / "profiles" / f"{name}.json").write_text(json.dumps(graph))
    # A JSON string is a YAML string.
    nodes = json.dumps(str(Path(__file__).parent / "custom_nodes"))
    (folder / "nodes.yaml").write_text(f"tests:\n  custom_nodes: {nodes}\n")
    return Comfy.start(
        base,
        ROOT,
        COMFYUI,
        STARTER_MODELS,
        flags=("--extra-model-paths-config", str(folder / "nodes.yaml")),
        env={"FLUX_FACE_PROFILES_DIR": str(folder / "profiles"), **env},
    )


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    """A server with the profiles above."""
    with start_server(tmp_path_factory.mktemp("api"), {}) as server:
        yield server


@pytest.fixture(scope="session")
def tight_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Comfy]:
    """The same with tokens and small limits."""
    with start_server(tmp_path_factory.mktemp("tight"), TIGHT) as server:
        yield server


@pytest.fixture(scope="session")
def outside() -> Iterator[Peer]:
    """A server on this machine whose address the third server may connect to."""
    with peer() as server:
        yield server


@pytest.fixture(scope="session")
def bucket_url() -> Iterator[str]:
    """An S3-compatible storage with one bucket."""
    moto = pytest.importorskip("moto.server", reason="the S3-compatible server of these tests")
    server = moto.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    boto3.client(
        "s3", endpoint_url=url, aws_access_key_id="key", aws_secret_access_key="secret", region_name="us-east-1"
    ).create_bucket(Bucket=BUCKET)
    yield url
    server.stop()


@pytest.fixture(scope="session")
def hub() -> Iterator[Hub]:
    """A server that behaves like Hugging Face, where the third server looks for models."""
    with Hub.running() as server:
        yield server


@pytest.fixture(scope="session")
def wide_server(tmp_path_factory: pytest.TempPathFactory, outside: Peer, bucket_url: str, hub: Hub) -> Iterator[Comfy]:
    """The same with everything on that is off by default, and warmed up."""
    environment = {
        **WIDE,
        "HF_ENDPOINT": hub.url(),
        "FLUX_FACE_ALLOWED_HOSTS": f"127.0.0.1:{outside.port}",
        "BUCKET_ENDPOINT_URL": bucket_url,
    }
    with start_server(tmp_path_factory.mktemp("wide"), environment) as server:
        yield server


@pytest_asyncio.fixture
async def wide(wide_server: Comfy) -> AsyncIterator[Client]:
    """A client of the third server that shows Alice's token."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKENS['alice']}"}) as session:
        yield Client(session, wide_server.url)


@pytest_asyncio.fixture
async def client(api_server: Comfy) -> AsyncIterator[Client]:
    """A client of the first server."""
    async with aiohttp.ClientSession() as session:
        yield Client(session, api_server.url)


@pytest_asyncio.fixture
async def tight(tight_server: Comfy) -> AsyncIterator[Client]:
    """A client of the second server that shows Alice's token."""
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {TOKENS['alice']}"}) as session:
        yield Client(session, tight_server.url)
