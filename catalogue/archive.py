"""Members of a zip file, taken out by name."""

from __future__ import annotations

import contextlib
import hashlib
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path

from .errors import ModelError
from .manifest import Member
from .transfer import file_error
from .wire import Wire

# For members whose size the manifest does not know.
_LARGEST = 2 << 30
_CHUNK = 1 << 20


def extract(subject: str, archive: Path, members: Sequence[Member], folder: Path, wire: Wire) -> dict[str, str]:
    """Puts the members where they belong, all or none.

    What else is in the archive, and what it calls its members, makes no difference to where files are written.

    Returns:
        SHA-256 by `Member.name`.

    Raises:
        ModelError: ``bad_archive``, ``checksum_mismatch`` or ``cannot_write``.
        Cancelled: nothing is placed.
    """
    waiting: dict[Path, Path] = {}
    digests: dict[str, str] = {}
    try:
        with zipfile.ZipFile(archive) as opened:
            for row in members:
                target = folder / row.name
                target.parent.mkdir(parents=True, exist_ok=True)
                waiting[target] = target.with_name(f"{target.name}.part")
                digests[row.name] = _copy(subject, opened, row, waiting[target], wire)
        for target, temporary in waiting.items():
            temporary.replace(target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise _bad(subject, str(error)) from error
    except OSError as error:
        raise file_error(subject, error) from error
    finally:
        for temporary in waiting.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
    return digests


def _copy(subject: str, opened: zipfile.ZipFile, row: Member, target: Path, wire: Wire) -> str:
    try:
        info = opened.getinfo(row.member)
    except KeyError as error:
        raise _bad(subject, f"it has no {row.member}") from error
    if info.is_dir() or info.flag_bits & 1:
        raise _bad(subject, f"{row.member} is a folder or encrypted")
    limit = _LARGEST if row.size is None else row.size
    digest, size = hashlib.sha256(), 0
    with opened.open(info) as source, target.open("wb") as file:
        while block := source.read(_CHUNK):
            wire.stop_if_cancelled()
            size += len(block)
            # The archive's own word for the size is not to be trusted.
            if size > limit:
                raise _bad(subject, f"{row.member} has more than {limit} bytes")
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    found = digest.hexdigest()
    if row.size not in (None, size) or row.sha256 not in (None, found):
        raise ModelError(
            "checksum_mismatch",
            subject,
            f"{row.member} has {size} bytes and the SHA-256 {found}, expected {row.size} and {row.sha256}",
            "Update the pack; if it is up to date, report it as an issue",
        )
    return found


def _bad(subject: str, problem: str) -> ModelError:
    return ModelError("bad_archive", subject, f"the archive cannot be used: {problem}", "Run it again, or report it")
