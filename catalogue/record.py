"""What was verified, and when: a small JSON file beside the models.

It saves hashing tens of gigabytes again; a file whose size or time has changed since is looked at anew.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

log = logging.getLogger(__name__)

NAME = ".flux-face-models.json"


@dataclass(frozen=True)
class Entry:
    """A file as it was when it was verified.

    Attributes:
        model: the model's id.
        size, mtime_ns: of the file, to see whether it is still the same.
        sha256: of the file; None where it was only measured.
        verified: against what: ``manifest`` or ``host`` for the SHA-256, ``size`` for the size alone, ``no``.
        source: where it came from, without secrets.
        revision: the hub's commit.
        at: time in ISO 8601, UTC.
    """

    model: str
    size: int
    mtime_ns: int
    sha256: str | None
    verified: str
    source: str
    revision: str | None
    at: str

    @classmethod
    def of(cls, model: str, path: Path, sha256: str | None, verified: str, source: str, revision: str | None) -> Entry:
        """An entry for a file as it is now."""
        stat = path.stat()
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(model, stat.st_size, stat.st_mtime_ns, sha256, verified, source, revision, now)

    def matches(self, path: Path) -> bool:
        """Whether the file has not been touched since."""
        stat = path.stat()
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)


class Record:
    """The entries of one models directory, by path below it. Threads may share it."""

    def __init__(self, models_dir: Path) -> None:
        self._path = models_dir / NAME
        self._lock = threading.Lock()
        self._entries: dict[str, Entry] = {}
        try:
            rows = json.loads(self._path.read_text(encoding="utf-8"))["files"]
            self._entries = {name: Entry(**row) for name, row in rows.items()}
        except FileNotFoundError:
            pass
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            log.warning("%s cannot be read and is made anew: %s", self._path, error)

    def get(self, name: str) -> Entry | None:
        """The entry of folder/name."""
        with self._lock:
            return self._entries.get(name)

    def put(self, name: str, entry: Entry) -> None:
        """Adds an entry and saves."""
        with self._lock:
            self._entries[name] = entry
            rows = {key: asdict(value) for key, value in sorted(self._entries.items())}
            temporary = self._path.with_name(f"{NAME}.new")
            with temporary.open("w", encoding="utf-8") as file:
                json.dump({"version": 1, "files": rows}, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self._path)
