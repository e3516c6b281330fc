"""What the image's build downloads: the script, against the stand-in of the hub."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flux_face.starter import prepare
from flux_face.tests.catalogue.hub import Hub, Served

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the image is Linux")

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "hf_secret_of_the_build"


@pytest.fixture
def hub() -> Iterator[Hub]:
    with Hub.running() as served:
        yield served


def download(hub: Hub, directory: Path, **env: str) -> subprocess.CompletedProcess[str]:
    secrets = directory / "secrets"
    secrets.mkdir(exist_ok=True)
    (secrets / "huggingface_token").write_text(TOKEN + "\n")
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGINGFACE_", "CIVITAI"))
    }
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**kept, "PATH": path, "HF_ENDPOINT": hub.url(), "SECRETS_DIR": str(secrets), **env}
    command = [ROOT / "docker" / "download.sh", directory / "models"]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


def test_a_gated_model_with_a_token_from_a_secret(hub: Hub, tmp_path: Path) -> None:
    # Of unknown size and hash in the manifest, so that a test may make it up.
    hub.files["facefusion/models-3.0.0/simswap_256.onnx"] = Served(b"network" * 1000, tokens={TOKEN})
    done = download(hub, tmp_path, MODEL_TYPE="simswap-256", ACCEPT_LICENCES="simswap blendswap")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "models" / "facefusion" / "simswap_256.onnx").stat().st_size == 7000
    assert TOKEN not in done.stdout + done.stderr
    written = [path.read_bytes() for path in (tmp_path / "models").rglob("*") if path.is_file()]
    assert not any(TOKEN.encode() in content for content in written)


def test_a_licence_that_is_not_accepted(hub: Hub, tmp_path: Path) -> None:
    done = download(hub, tmp_path, MODEL_TYPE="simswap-256")
    assert done.returncode == 1
    assert "simswap" in done.stderr


def test_none_and_starter(hub: Hub, tmp_path: Path) -> None:
    assert download(hub, tmp_path, MODEL_TYPE="none").returncode == 0
    assert list((tmp_path / "models").iterdir()) == []
    done = download(hub, tmp_path, MODEL_TYPE="starter")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "models" / "unet" / prepare.FLUX_FILE).is_file()
    assert (tmp_path / "models" / "clip" / prepare.CLIP_FILE).stat().st_size == prepare.CLIP_BYTES
