"""Downloads models into a models directory.

All that can be known before the first byte is looked at first: licences, what is there already, whether Hugging Face
gives the files, and the disk. Then the files come in parallel; one that fails does not stop the others. A file appears
under its name only when it is complete and checked.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from . import archive, transfer
from .errors import Cancelled, DownloadError, ModelError
from .manifest import Manifest, Model, ModelFile, UrlSource
from .record import Entry, Record
from .sources import HUB, Remote, resolve
from .wire import Wire, refusal, tokens_from

LOCK = ".flux-face-models.lock"
_CHUNK = 1 << 20

Progress = Callable[[str, int, int | None], None]
"""Called from several threads with folder/name, its bytes so far, and how many it will have, where that is known."""

_Done = TypeVar("_Done")
_Task = TypeVar("_Task")


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class Options:
    """How to download.

    Attributes:
        accept_licences: keys of ``Manifest.licences`` that somebody has read and accepted.
        replace: whether a file that is there and is not the manifest's may be overwritten.
        parallel: files at a time.
        reserve_bytes: what must stay free on each disk.
        free_bytes: tells the free space of a folder's disk.
        attempts, first_wait: see `Wire`.
    """

    accept_licences: Collection[str] = frozenset()
    replace: bool = False
    parallel: int = 3
    reserve_bytes: int = 1 << 30
    free_bytes: Callable[[Path], int] = field(default=_free_bytes, repr=False)
    attempts: int = 6
    first_wait: float = 1.0


@dataclass(frozen=True)
class Outcome:
    """What became of a model.

    Attributes:
        model: its id.
        state: whether it was there already.
        files: where it lies.
        verified: against what: ``manifest`` or ``host`` for the SHA-256, ``size`` for the size alone, ``no`` where
            nothing is known of it.
    """

    model: str
    state: Literal["kept", "downloaded"]
    files: tuple[Path, ...]
    verified: str


def download(
    models: Sequence[Model],
    models_dir: Path,
    manifest: Manifest,
    options: Options | None = None,
    *,
    progress: Progress | None = None,
    cancel: threading.Event | None = None,
    env: Mapping[str, str] = os.environ,
) -> tuple[Outcome, ...]:
    """Fetches what is missing.

    Args:
        models: of ``manifest.select``.
        models_dir: ComfyUI's models folder; made where it does not exist.
        progress: see `Progress`.
        cancel: setting it ends the call within seconds; partial files stay.
        env: where the tokens are, and HF_ENDPOINT where a mirror is used.

    Raises:
        DownloadError: with every error found before the first byte, and nothing was downloaded; or those of the files
            that failed, and the others are in place. Codes: ``licence_not_accepted``, ``unknown_licence``, ``busy``,
            ``wrong_file_there``, ``disk_full``, ``cannot_write``, and those of ``sources``, ``wire``, ``transfer`` and
            ``archive``.
        Cancelled: by the event.
    """
    options = options or Options()
    _check_consent(models, manifest, options.accept_licences)
    cancel = cancel or threading.Event()
    endpoint = (env.get("HF_ENDPOINT") or HUB).rstrip("/")
    try:
        tokens = tokens_from(env, endpoint)
    except ModelError as error:
        raise DownloadError([error]) from error
    wire = Wire(tokens, cancel, attempts=options.attempts, first_wait=options.first_wait)
    with _only_one(models_dir):
        work = _Work(models_dir, manifest, options, wire, endpoint, progress)
        plans = _all(options.parallel, models, work.plan)
        jobs = [plan for plan in plans if isinstance(plan, _Job)]
        work.check_disk(jobs)
        done = {outcome.model: outcome for outcome in plans if isinstance(outcome, Outcome)}
        done |= {outcome.model: outcome for outcome in _all(options.parallel, jobs, work.run)}
    return tuple(done[model.id] for model in models)


def sha256_of(path: Path, wire: Wire | None = None) -> str:
    """A file's SHA-256. wire: stops it when cancelled."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_CHUNK):
            if wire is not None:
                wire.stop_if_cancelled()
            digest.update(block)
    return digest.hexdigest()


@dataclass(frozen=True)
class _Job:
    model: Model
    remote: Remote
    part: Path


class _Work:
    """One call of `download`."""

    def __init__(
        self,
        models_dir: Path,
        manifest: Manifest,
        options: Options,
        wire: Wire,
        endpoint: str,
        progress: Progress | None,
    ) -> None:
        self._dir = models_dir
        self._manifest = manifest
        self._options = options
        self._wire = wire
        self._endpoint = endpoint
        self._progress = progress or (lambda *_: None)
        self._record = Record(models_dir)

    def plan(self, model: Model) -> _Job | Outcome:
        """Looks at what is there and at the host."""
        try:
            states = [self._known(model, file) for file in model.files]
            if all(states):
                return self._kept(model)
            self._may_replace(model, states)
            remote = resolve(model, self._manifest.licence_of(model), self._wire, self._endpoint)
            if not model.members and self._path(model.files[0]).is_file():
                # Only the host could tell.
                states = [self._compare(model, model.files[0], remote)]
                if all(states):
                    return self._kept(model)
                self._may_replace(model, states)
        except OSError as error:
            raise transfer.file_error(model.id, error) from error
        return _Job(model, remote, self._dir / model.folder / f"{model.name}.part")

    def check_disk(self, jobs: Iterable[_Job]) -> None:
        """Whether everything fits, each disk by itself."""
        needs: dict[int, tuple[Path, int]] = {}
        for job in jobs:
            folder = next(path for path in job.part.parents if path.is_dir())
            disk = folder.stat().st_dev
            missing = max(0, (job.remote.size or 0) - transfer.partial_bytes(job.part))
            missing += sum(row.size or 0 for row in job.model.members)
            needs[disk] = (folder, needs.get(disk, (folder, 0))[1] + missing)
        errors = []
        for folder, needed in needs.values():
            free, reserve = self._options.free_bytes(folder), self._options.reserve_bytes
            if needed + reserve > free:
                errors.append(
                    ModelError(
                        "disk_full",
                        str(folder),
                        f"{_gb(free)} are free; the download needs {_gb(needed)}, and {_gb(reserve)} must stay free",
                        "Free some space, choose a smaller model, or another --models-dir",
                    )
                )
        if errors:
            raise DownloadError(errors)

    def run(self, job: _Job) -> Outcome:
        """Downloads one model and puts it in its place."""
        model, remote = job.model, job.remote
        name = f"{model.folder}/{model.name}"
        licence = self._manifest.licence_of(model)
        with_token = self._wire.token_for(remote.url) is not None

        def refused(status: int, headers: Mapping[str, str]) -> Exception:
            return refusal(status, headers, remote.url, model, licence, with_token=with_token)

        try:
            job.part.parent.mkdir(parents=True, exist_ok=True)
            digest = transfer.fetch(
                model.id,
                remote,
                job.part,
                self._wire,
                refused,
                lambda received, total: self._progress(name, received, total),
            )
            if model.members:
                digests = archive.extract(model.id, job.part, model.members, self._dir / model.folder, self._wire)
            else:
                digests = {model.name: digest}
                job.part.replace(self._path(model.files[0]))
            transfer.discard(job.part)
            _flush(job.part.parent)
            for file in model.files:
                self._note(model, file, digests[file.name], remote)
        except OSError as error:
            raise transfer.file_error(model.id, error) from error
        except ModelError as error:
            if error.code == "bad_archive":
                transfer.discard(job.part)
            raise
        return Outcome(model.id, "downloaded", tuple(map(self._path, model.files)), remote.authority)

    def _known(self, model: Model, file: ModelFile) -> bool | None:
        """Whether a file is the right one, as far as that can be told without its host; None where it cannot."""
        path, entry = self._path(file), self._record.get(file.path)
        if not path.is_file():
            return None
        if file.size not in (None, path.stat().st_size):
            return False
        if entry is not None and entry.matches(path) and file.sha256 in (None, entry.sha256):
            return True
        if file.sha256 is None:
            return None
        digest = sha256_of(path, self._wire)
        if digest == file.sha256:
            self._note(model, file, digest, None)
        return digest == file.sha256

    def _compare(self, model: Model, file: ModelFile, remote: Remote) -> bool:
        """Whether a file that is there is the host's."""
        path = self._path(file)
        if remote.size not in (None, path.stat().st_size):
            return False
        digest = sha256_of(path, self._wire)
        if remote.sha256 not in (None, digest):
            return False
        self._note(model, file, digest, remote)
        return True

    def _may_replace(self, model: Model, states: Sequence[bool | None]) -> None:
        for file, state in zip(model.files, states, strict=True):
            if state is False and not self._options.replace:
                raise ModelError(
                    "wrong_file_there",
                    model.id,
                    f"{self._path(file)} is there, but it is not the file that the manifest means",
                    "Move it away, or allow to replace it",
                )

    def _kept(self, model: Model) -> Outcome:
        entries = [self._record.get(file.path) for file in model.files]
        verified = {entry.verified if entry else "no" for entry in entries}
        return Outcome(model.id, "kept", tuple(map(self._path, model.files)), "/".join(sorted(verified)))

    def _note(self, model: Model, file: ModelFile, digest: str, remote: Remote | None) -> None:
        source = model.source
        place = source.url if isinstance(source, UrlSource) else f"{source.repository}/{source.path}"
        # A member's own hash, where the manifest has it; else it is as good as its archive.
        authority = "manifest" if file.sha256 or remote is None else remote.authority
        revision = remote.revision if remote else None
        entry = Entry.of(model.id, self._path(file), digest, authority, place, revision)
        self._record.put(file.path, entry)

    def _path(self, file: ModelFile) -> Path:
        return self._dir / file.folder / file.name


def _check_consent(models: Iterable[Model], manifest: Manifest, accepted: Collection[str]) -> None:
    errors = [
        ModelError(
            "unknown_licence", key, "the manifest has no such licence", f"There are: {', '.join(manifest.licences)}"
        )
        for key in sorted(set(accepted) - set(manifest.licences))
    ]
    for model in models:
        if manifest.needs_consent(model) and model.licence not in accepted:
            licence = manifest.licence_of(model)
            errors.append(
                ModelError(
                    "licence_not_accepted",
                    model.id,
                    f"its licence must be accepted: {licence.name} (commercial use: {licence.commercial})",
                    f"Read {licence.link} and accept it as {model.licence!r}",
                )
            )
    if errors:
        raise DownloadError(errors)


@contextlib.contextmanager
def _only_one(models_dir: Path) -> Iterator[None]:
    """Keeps a second download, of whatever process, out of the same partial files."""
    from filelock import FileLock, Timeout

    try:
        models_dir.mkdir(parents=True, exist_ok=True)
        lock = FileLock(models_dir / LOCK, timeout=0)
        lock.acquire()
    except Timeout as error:
        problem = "another download into this folder is running"
        raise DownloadError([ModelError("busy", str(models_dir), problem, "Wait until it has ended")]) from error
    except OSError as error:
        raise DownloadError([transfer.file_error(str(models_dir), error)]) from error
    try:
        yield
    finally:
        lock.release()


def _all(parallel: int, tasks: Sequence[_Task], action: Callable[[_Task], _Done]) -> list[_Done]:
    """Runs the action on all tasks, a few at a time, to the end; then raises what went wrong."""
    done: list[_Done] = []
    errors: list[ModelError] = []
    cancelled = False
    with ThreadPoolExecutor(max_workers=max(1, parallel)) as pool:
        for future in [pool.submit(action, task) for task in tasks]:
            try:
                done.append(future.result())
            except ModelError as error:
                errors.append(error)
            except Cancelled:
                cancelled = True
    if cancelled:
        raise Cancelled
    if errors:
        raise DownloadError(errors)
    return done


def _flush(folder: Path) -> None:
    """Makes new names in a folder last through a power cut, where the system can."""
    # Windows cannot open folders, and some network file systems refuse.
    with contextlib.suppress(OSError, AttributeError):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f} GB"
