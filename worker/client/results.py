"""A job's output to picture files, whatever the output says: our own file names, bounded sizes, whole files or none."""

from __future__ import annotations

import asyncio
import base64
import binascii
import os
import re
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp

from .api import ANSWER_S, CONNECT_S, proxy_for, read_bounded
from .backoff import Backoff
from .errors import ItemError, RefusedError
from .targets import Target

MAX_PICTURE_BYTES = 64_000_000
MAX_PICTURES = 64
DOWNLOAD_TRIES = 4
# Pictures are decoded in memory: a few outputs at a time.
_AT_A_TIME = 4
_DATA_URI = re.compile(r"data:image/[a-z0-9.+-]+;base64,", re.IGNORECASE)
_MAX_STEM_CHARS = 80
_PART_PREFIX, _PART_SUFFIX = ".flux-face-", ".part"
_LISTS = {"images": "", "generated": "_generated"}


class ResultStore:
    """Writes into one folder; use as an async context manager.

    Args:
        folder: made if it is not there.
        max_picture_bytes: of one file.
        backoff: between the tries of a download.
    """

    def __init__(
        self, folder: Path, max_picture_bytes: int = MAX_PICTURE_BYTES, backoff: Backoff | None = None
    ) -> None:
        self._folder = folder
        self._max_bytes = max_picture_bytes
        self._backoff = backoff or Backoff()
        self._turn = asyncio.Semaphore(_AT_A_TIME)

    async def __aenter__(self) -> ResultStore:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=ANSWER_S, sock_connect=CONNECT_S), auto_decompress=False
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def save(self, output: object, stem: str, target: Target, *, wanted: bool = True) -> dict[str, Any]:
        """Write all pictures of a completed job's output.

        Args:
            output: as the target gave it.
            stem: what the files' names begin with.
            target: that gave it.
            wanted: whether there must be a picture.

        Returns:
            ``files`` (names in the folder), and the output's ``seeds`` and ``qa`` where it has them.

        Raises:
            ItemError: there is no picture, or one cannot be had or is none.
        """
        if not isinstance(output, dict) or (wanted and not output.get("images")):
            raise ItemError("no_pictures", "the job completed without pictures", "Look at the target's log")
        async with self._turn:
            files = []
            for name, suffix in _LISTS.items():
                entries = output.get(name) or []
                if not isinstance(entries, list) or len(entries) > MAX_PICTURES:
                    raise ItemError(
                        "result_shape", f"{name} is no list of at most {MAX_PICTURES}", "Ask for fewer images"
                    )
                for index, entry in enumerate(entries):
                    data = await self._picture(entry, target)
                    files.append(await asyncio.to_thread(self._write, f"{stem}{suffix}_{index}", data))
        return {"files": files, "seeds": _list(output.get("seeds")), "qa": _list(output.get("qa"))}

    async def _picture(self, entry: object, target: Target) -> bytes:
        kind, data = (entry.get("type"), entry.get("data")) if isinstance(entry, dict) else (None, None)
        if not isinstance(data, str) or kind not in ("base64", "s3_url", "url"):
            raise ItemError("result_shape", "a picture is neither base64 nor a link", "Look at the target's log")
        if kind == "s3_url":
            # Signed: the target's token is not for storage.
            return await self._download(data, None)
        if kind == "url":
            return await self._download(_own_address(target, data), target.token)
        prefix = _DATA_URI.match(data)
        encoded = data[prefix.end() :] if prefix else data
        if len(encoded) > (self._max_bytes + 2) // 3 * 4:
            raise self._too_large()
        try:
            return await asyncio.to_thread(base64.b64decode, encoded, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ItemError("result_shape", "a picture is not valid base64", "Look at the target's log") from error

    async def _download(self, link: str, token: str | None) -> bytes:
        """What a link leads to; links are signed, so no message shows more of one than its host."""
        parts = urlsplit(link)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ItemError("result_link", "a picture's link is not an http address", "Look at the target's log")
        headers = {"Authorization": f"Bearer {token}"} if token else None
        problem = ""
        for attempt in range(1, DOWNLOAD_TRIES + 1):
            try:
                async with self._session.get(
                    link, headers=headers, proxy=proxy_for(link), allow_redirects=False
                ) as answer:
                    if answer.status == 200:
                        return await read_bounded(answer, self._max_bytes)
                    problem = f"HTTP {answer.status}"
            except RefusedError as error:
                raise self._too_large() from error
            except (aiohttp.ClientError, asyncio.TimeoutError, OSError, ValueError) as error:
                problem = type(error).__name__
            if attempt < DOWNLOAD_TRIES:
                await asyncio.sleep(self._backoff.pause_s(attempt))
        raise ItemError(
            "download_failed",
            f"{parts.hostname} did not hand over a picture ({problem})",
            "Look at the bucket's settings",
        )

    def _write(self, stem: str, data: bytes) -> str:
        name = f"{stem}.{_extension(data)}"
        write_whole(self._folder / name, data)
        return name

    def _too_large(self) -> ItemError:
        return ItemError(
            "picture_too_large",
            f"a picture is over {self._max_bytes:,} bytes",
            "Ask for a smaller one or another format",
        )


def file_stem(number: int, name: str) -> str:
    """What the file names of an item begin with: unique by its number, and harmless on every file system."""
    stem = Path(name).stem if Path(name).suffix else name
    return f"{number:05}-{re.sub(r'[^A-Za-z0-9_-]+', '_', stem)[:_MAX_STEM_CHARS]}"


def write_whole(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    handle, temporary = tempfile.mkstemp(prefix=_PART_PREFIX, suffix=_PART_SUFFIX, dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp lets nobody else read.
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def remove_parts(folder: Path) -> None:
    """Remove what `write_whole` was writing here when its process was killed; for who has the folder to itself."""
    for part in folder.glob(f"{_PART_PREFIX}*{_PART_SUFFIX}"):
        part.unlink(missing_ok=True)


def _own_address(target: Target, path: str) -> str:
    """The address of a picture that a server of ours keeps; the token goes nowhere else."""
    address = urljoin(target.url, path)
    if not address.startswith(target.url + "/"):
        raise ItemError("result_link", "a picture's address is not one of the target's", "Look at the target's log")
    return address


def _extension(data: bytes) -> str:
    """By what the file is, not by what the target calls it."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    raise ItemError("result_shape", "a picture is neither PNG, JPEG nor WebP", "Look at the target's log")


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
