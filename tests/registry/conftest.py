"""The pack as it is published and installed: a clean checkout, and the network's stand-in, which lets nothing out."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from flux_face.devtools.pack import ROOT
from flux_face.tests.repository import repository_files

_GIT = ("git", "-c", "user.name=Flux Face", "-c", "user.email=tests@localhost", "-c", "commit.gpgsign=false")


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A git repository of one commit with the files that are committed here or would be."""
    target = tmp_path_factory.mktemp("published") / "flux-face"
    for path in repository_files():
        copy = target / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy)
    for command in (["init", "--quiet"], ["add", "--all"], ["commit", "--quiet", "--message", "As it is"]):
        subprocess.run([*_GIT, *command], cwd=target, check=True)
    return target


@dataclass
class Outside:
    """What stands for everything outside this machine: an HTTP proxy that answers as the Registry does.

    Attributes:
        port: of the proxy on 127.0.0.1.
        requests: method and address of what was asked for, in order.
        published: the body of the request that announces a version, None before it.
        archive: the file that was uploaded, empty before it.
    """

    port: int = 0
    requests: list[str] = field(default_factory=list)
    published: dict[str, Any] | None = None
    archive: bytes = b""

    def environment(self, home: Path) -> dict[str, str]:
        """What a program needs to be told to go nowhere else, to send no telemetry, and to leave the user alone."""
        proxy = f"http://127.0.0.1:{self.port}"
        names = ("http_proxy", "https_proxy", "all_proxy")
        return {
            **dict.fromkeys((*names, *(name.upper() for name in names)), proxy),
            # 127.0.0.1 is a ComfyUI of the tests; localhost is comfy-cli's name of a Registry for developers.
            "no_proxy": "127.0.0.1",
            "NO_PROXY": "127.0.0.1",
            "HOME": str(home),
            "USERPROFILE": str(home),
            "DO_NOT_TRACK": "1",
            "COMFY_NO_UPDATE_CHECK": "1",
            "PIP_NO_INDEX": "1",
            "UV_OFFLINE": "1",
        }


@pytest.fixture
def outside() -> Iterator[Outside]:
    """A stand-in of the network, on a port of its own."""
    seen = Outside()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self._read()
            known = {**body["node_version"], "id": "1", "changelog": body["node_version"].get("changelog", "")}
            seen.published = body
            self._answer(201, {"node_version": known, "signedUrl": "http://localhost/upload.zip"})

        def do_PUT(self) -> None:
            seen.archive = self._body()
            self._answer(200, {})

        def do_GET(self) -> None:
            self._answer(403, {})

        do_CONNECT = do_HEAD = do_GET  # noqa: N815 (the base class's names)

        def _read(self) -> Any:
            return json.loads(self._body())

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers["Content-Length"]))

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            seen.requests.append(f"{self.command} {self.path}")
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen.port = server.server_port
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield seen
    server.shutdown()
    thread.join()
    server.server_close()


def program(name: str) -> Path:
    """A program of this environment."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    assert found is not None, f"{name} is not installed"
    return Path(found)
