"""One file from its host into a partial file, whole and checked.

Not ``hf_hub_download``: it checks a file's size but not its hash, resumes without If-Range, saves under the
repository's path with a ``.cache`` folder beside it, and can neither be cancelled nor be used for other hosts. So
there is one loop for all hosts, and the hub's library is asked for addresses and checksums only (see ``sources``).

A transfer that breaks off leaves ``NAME.part`` and ``NAME.part.json``, which says what the part is a part of. It is
gone on with if the host still has that file: the expected hash is the same, or If-Range finds the ETag unchanged.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import urlsplit

from .errors import ModelError
from .sources import Remote
from .wire import PassingError, Wire, origin, retry_after

if TYPE_CHECKING:
    import requests

Report = Callable[[int, int | None], None]
"""Called with the bytes that are there and, where known, their number in the end."""

Refusal = Callable[[int, Mapping[str, str]], Exception]
"""The error of a status and its headers."""

_CHUNK = 1 << 20
# What a broken transfer must have brought for the next one not to count as a repetition.
_ADVANCED = 8 << 20
_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))


def partial_bytes(part: Path) -> int:
    """How much of a file is there from an earlier transfer."""
    return part.stat().st_size if part.is_file() and _state_of(part).is_file() else 0


def discard(part: Path) -> None:
    """Removes a partial file and what is noted of it."""
    part.unlink(missing_ok=True)
    _state_of(part).unlink(missing_ok=True)


def fetch(subject: str, remote: Remote, part: Path, wire: Wire, refused: Refusal, report: Report) -> str:
    """Completes the partial file.

    Args:
        subject: the model's id, for errors.
        part: where to; its folder exists.
        refused: tells what a bad status means.

    Returns:
        The file's SHA-256.

    Raises:
        ModelError: ``checksum_mismatch`` or ``size_mismatch``, and the part is gone; ``disk_full`` or
            ``cannot_write``; what `refused` and `Wire.persist` raise.
        Cancelled: the part stays.
    """
    transfer = _Transfer(subject, remote, part, wire, refused, report)
    try:
        digest = wire.persist(subject, transfer.attempt)
        if remote.sha256 not in (None, digest) and transfer.spliced:
            # The earlier part may be to blame; once more from the start tells.
            transfer.start_over()
            digest = wire.persist(subject, transfer.attempt)
        if remote.sha256 not in (None, digest):
            raise ModelError(
                "checksum_mismatch",
                subject,
                f"what arrived has the SHA-256 {digest}, expected {remote.sha256}",
                "Run it again; if it stays so, report it as an issue and do not use the file from elsewhere",
            )
    except ModelError as error:
        if error.code in ("checksum_mismatch", "size_mismatch"):
            discard(part)
        raise
    return digest


class _Transfer:
    """The state of one transfer over its attempts."""

    def __init__(self, subject: str, remote: Remote, part: Path, wire: Wire, refused: Refusal, report: Report) -> None:
        self._subject = subject
        self._remote = remote
        self._part = part
        self._wire = wire
        self._refused = refused
        self._report = report
        self._etag: str | None = None
        self._read_part()
        # Whether the bytes come from more than one answer.
        self.spliced = self._have > 0

    def start_over(self) -> None:
        """Forget what is there."""
        self._hash = hashlib.sha256()
        self._have = 0
        self._etag = None
        self.spliced = False

    def attempt(self) -> str:
        """Receive what is missing; returns the SHA-256 of all."""
        size = self._remote.size
        if size is None or self._have < size:
            self._receive()
        self._report(self._have, size)
        return self._hash.hexdigest()

    def _read_part(self) -> None:
        self.start_over()
        try:
            state = json.loads(_state_of(self._part).read_text(encoding="utf-8"))
            same = state["sha256"] == self._remote.sha256 and (state["sha256"] or state["etag"])
            with self._part.open("rb") as file:
                if not same or self._part.stat().st_size > (self._remote.size or float("inf")):
                    return
                self._etag = state["etag"]
                while block := file.read(_CHUNK):
                    self._wire.stop_if_cancelled()
                    self._hash.update(block)
                    self._have += len(block)
        # Missing, or of another program: then there is nothing to go on with.
        except (OSError, ValueError, KeyError, TypeError):
            self.start_over()

    def _receive(self) -> None:
        headers = {}
        if self._have:
            self.spliced = True
            headers["Range"] = f"bytes={self._have}-"
            if self._etag:
                headers["If-Range"] = self._etag
        with self._wire.open("GET", self._remote.url, headers) as response:
            total = self._accept(response)
            try:
                # Before the first byte, so that no part is ever without it.
                self._note()
                with self._part.open("r+b" if self._have else "wb") as file:
                    file.seek(self._have)
                    self._copy(response, file, total)
                    file.flush()
                    os.fsync(file.fileno())
            except OSError as error:
                raise file_error(self._subject, error) from error

    def _accept(self, response: requests.Response) -> int | None:
        """Looks at the head of an answer; returns the bytes of the whole file, where they are known."""
        if response.status_code == 416 and self._have:
            self.start_over()
            raise PassingError("host_unavailable", "the host no longer has the rest of the partial file")
        if response.status_code not in (200, 206):
            if origin(response.url) != origin(self._remote.url):
                # Not the host's own word: its address for this file may have expired, and the next will be new.
                problem = f"{urlsplit(response.url).hostname} answers {response.status_code}"
                raise PassingError("host_unavailable", problem, retry_after(response.headers))
            raise self._refused(response.status_code, response.headers)
        etag = _strong(response.headers.get("ETag"))
        total: int | None = None
        if response.status_code == 206:
            found = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("Content-Range", ""))
            if not found or int(found[1]) != self._have or (self._etag and etag and etag != self._etag):
                self.start_over()
                raise PassingError("host_unavailable", "the host sent another part than was asked for")
            total = int(found[2])
        else:
            # The whole file: it has changed, or the host knows no ranges.
            self.start_over()
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
        if self._remote.size not in (None, total) and total is not None:
            raise ModelError(
                "size_mismatch",
                self._subject,
                f"the host announces {total} bytes, expected {self._remote.size}",
                "Update the pack; if it is up to date, report it as an issue",
            )
        self._etag = etag or self._etag
        return self._remote.size or total

    def _copy(self, response: requests.Response, file: BinaryIO, total: int | None) -> None:
        before = self._have
        # Gives what has arrived instead of waiting for a full chunk; urllib3 1 has only the latter.
        read = getattr(response.raw, "read1", response.raw.read)
        while True:
            self._wire.stop_if_cancelled()
            try:
                block = read(_CHUNK)
            # urllib3's errors, and those of the socket and of TLS that it lets through.
            except Exception as error:
                raise self._broken(before, total) from error
            if not block:
                break
            if total is not None and self._have + len(block) > total:
                raise ModelError(
                    "size_mismatch", self._subject, f"the host sends more than {total} bytes", "Report it as an issue"
                )
            file.write(block)
            self._hash.update(block)
            self._have += len(block)
            self._report(self._have, total)
        if total is not None and self._have < total:
            raise self._broken(before, total)

    def _broken(self, before: int, total: int | None) -> PassingError:
        problem = f"the transfer broke off after {self._have} of {total or 'unknown'} bytes"
        return PassingError("network", problem, advanced=self._have - before >= _ADVANCED)

    def _note(self) -> None:
        state = {"sha256": self._remote.sha256, "etag": self._etag}
        _state_of(self._part).write_text(json.dumps(state), encoding="utf-8")


def file_error(subject: str, error: OSError) -> ModelError:
    """The error of a file or folder that cannot be written."""
    if error.errno in _FULL:
        return ModelError(
            "disk_full", subject, "the disk is full", "Free some space and run it again; what has arrived is kept"
        )
    return ModelError(
        "cannot_write",
        subject,
        f"{error.filename or 'the file'} cannot be written ({error.strerror or type(error).__name__})",
        "Close what uses the file, ComfyUI included, and check the folder's permissions",
    )


def _state_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _strong(etag: str | None) -> str | None:
    # A weak one does not promise the same bytes.
    return etag if etag and etag.startswith('"') else None
