"""A server that behaves like Hugging Face and its CDN, and like a release page that redirects to one.

Two origins on loopback: the hub, which knows repositories and answers with redirects, and the CDN, which has bytes and
must never see a token.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import unquote, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

COMMIT = "0123456789abcdef0123456789abcdef01234567"
SIGNATURE = "signature-that-nobody-should-see"


@dataclass
class Fault:
    """How one answer goes wrong.

    Attributes:
        status, headers: answered instead of the file.
        bytes: the connection ends after as many of the body.
        drip: the body comes in pieces of as many bytes, until the client goes away.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    bytes: int | None = None
    drip: int | None = None


@dataclass
class Served:
    """A file.

    Attributes:
        content: what the CDN sends.
        sha256: what the hub says of it; of content unless it lies.
        tokens: who may have it; None for everybody.
        gated: whether others are told to accept a licence.
        length: whether the CDN announces the length.
        ranges: ``yes``, ``no``, or ``always``: without looking at If-Range.
        hub_faults, cdn_faults: the next answers of each.
    """

    content: bytes
    sha256: str | None = None
    tokens: set[str] | None = None
    gated: bool = False
    length: bool = True
    ranges: str = "yes"
    hub_faults: list[Fault] = field(default_factory=list)
    cdn_faults: list[Fault] = field(default_factory=list)

    @property
    def etag(self) -> str:
        """The CDN's, which is not the hub's."""
        return f'"{hashlib.sha1(self.content).hexdigest()}"'


@dataclass(frozen=True)
class Seen:
    """A request."""

    place: str
    method: str
    path: str
    headers: Message


class Hub:
    """The two servers; files are put into ``files`` by ``repository/path``, or by name for releases."""

    def __init__(self, certificate: Path | None) -> None:
        self._scheme = "https" if certificate else "http"
        self.files: dict[str, Served] = {}
        self.seen: list[Seen] = []
        self._servers = {
            place: ThreadingHTTPServer(("127.0.0.1", 0), _handler(self, place)) for place in ("hub", "cdn")
        }
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            for server in self._servers.values():
                server.socket = context.wrap_socket(server.socket, server_side=True)

    @classmethod
    @contextlib.contextmanager
    def running(cls, certificate: Path | None = None) -> Iterator[Hub]:
        """Serves until the end of the block. certificate: a PEM file with its key, for TLS."""
        hub = cls(certificate)
        threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in hub._servers.values()]
        for thread in threads:
            thread.start()
        try:
            yield hub
        finally:
            for server in hub._servers.values():
                server.shutdown()
                server.server_close()
            for thread in threads:
                thread.join()

    def url(self, place: str = "hub") -> str:
        """Origin of a server."""
        return f"{self._scheme}://127.0.0.1:{self._servers[place].server_address[1]}"

    def bodies(self) -> list[Seen]:
        """Requests for bytes."""
        return [request for request in self.seen if request.place == "cdn"]


def self_signed(path: Path) -> Path:
    """Writes a certificate of 127.0.0.1 and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(timezone.utc)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(pem))
    return path


def _handler(hub: Hub, place: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def do_GET(self) -> None:
            hub.seen.append(Seen(place, self.command, self.path, self.headers))
            (self._hub if place == "hub" else self._cdn)(unquote(urlsplit(self.path).path).strip("/"))

        do_HEAD = do_GET  # noqa: N815  (http.server's name)

        def _empty(self, status: int, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _hub(self, path: str) -> None:
            name, commit = path, None
            if found := re.fullmatch(r"(?:datasets/)?(.+)/resolve/(main|[0-9a-f]{40})/(.+)", path):
                name, commit = f"{found[1]}/{found[3]}", COMMIT
            served = hub.files.get(name)
            if served is None:
                return self._empty(404, {"X-Error-Code": "EntryNotFound"})
            if served.hub_faults:
                fault = served.hub_faults.pop(0)
                return self._empty(fault.status or 500, fault.headers)
            token = self.headers.get("Authorization", "").removeprefix("Bearer ")
            if served.tokens is not None and token not in served.tokens:
                reason = {"X-Error-Code": "GatedRepo"} if served.gated else {}
                return self._empty(403 if token else 401, reason)
            headers = {"Location": f"{hub.url('cdn')}/{name}?sig={SIGNATURE}"}
            if commit:
                digest = served.sha256 or hashlib.sha256(served.content).hexdigest()
                headers |= {
                    "X-Repo-Commit": commit,
                    "X-Linked-Size": str(len(served.content)),
                    "X-Linked-ETag": f'"{digest}"',
                    "ETag": '"of-the-pointer"',
                }
            return self._empty(302, headers)

        def _cdn(self, path: str) -> None:
            served = hub.files[path]
            fault = served.cdn_faults.pop(0) if served.cdn_faults and self.command == "GET" else Fault()
            if fault.status:
                return self._empty(fault.status, fault.headers)
            body, start = served.content, 0
            found = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            unchanged = self.headers.get("If-Range", served.etag) == served.etag
            if found and (served.ranges == "always" or (served.ranges == "yes" and unchanged)):
                start = int(found[1])
                if start >= len(body):
                    return self._empty(416, {"Content-Range": f"bytes */{len(body)}"})
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            if served.length:
                self.send_header("Content-Length", str(len(body) - start))
            self.send_header("ETag", served.etag)
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            if self.command == "GET":
                with contextlib.suppress(OSError):
                    self._send(body[start : None if fault.bytes is None else start + fault.bytes], fault.drip)
            return None

        def _send(self, body: bytes, drip: int | None) -> None:
            if drip is None:
                self.wfile.write(body)
                return
            for at in range(0, len(body), drip):
                self.wfile.write(body[at : at + drip])
                threading.Event().wait(0.02)

    return Handler
