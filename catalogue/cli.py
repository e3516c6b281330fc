"""The command line: list, download, check."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from .download import Options, download, sha256_of
from .errors import Cancelled, DownloadError, ModelError
from .manifest import Manifest, load_manifest
from .presence import folders_below, look
from .record import Record
from .table import markdown, megabytes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code: 0, 1 where something is wrong, 2 for wrong arguments, 130 when interrupted."""
    manifest = load_manifest()
    options = _parser(manifest).parse_args(arguments)
    try:
        return int(options.run(manifest, options))
    except (DownloadError, ModelError) as error:
        _say(str(error))
        return 1
    except Cancelled:
        _say("stopped; what has arrived is kept and gone on with next time")
        return 130


def _parser(manifest: Manifest) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="catalogue", description="Models of Flux Face: what there is, and downloads.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    names = {"nargs": "*", "metavar": "NAME", "default": [manifest.default_set]}
    listing = commands.add_parser("list", help="show the sets and models")
    listing.add_argument("--markdown", action="store_true", help="as docs/models.md has it")
    listing.set_defaults(run=_list)
    fetch = commands.add_parser("download", help="download sets or single models")
    fetch.add_argument("names", help=f"sets (MODEL_TYPE) or models; {manifest.default_set} if none", **names)  # type: ignore[arg-type]
    fetch.add_argument("--models-dir", type=Path, required=True, help="ComfyUI's models folder")
    fetch.add_argument(
        "--accept-licence", action="append", default=[], metavar="KEY", help="a licence that you have read and accept"
    )
    fetch.add_argument("--replace", action="store_true", help="overwrite files that are not the manifest's")
    fetch.add_argument("--parallel", type=int, default=3, metavar="N", help="files at a time (3)")
    fetch.set_defaults(run=_download)
    check = commands.add_parser("check", help="tell what is there")
    check.add_argument("names", help=f"sets or models; {manifest.default_set} if none", **names)  # type: ignore[arg-type]
    check.add_argument("--models-dir", type=Path, required=True, help="ComfyUI's models folder")
    check.add_argument("--hash", action="store_true", help="compare the SHA-256 of what is there, too")
    check.set_defaults(run=_check)
    return parser


def _list(manifest: Manifest, options: argparse.Namespace) -> int:
    if options.markdown:
        _print(markdown(manifest))
        return 0
    for name, keys in manifest.sets.items():
        _print(f"{name}: {' '.join(keys)}{' (default)' if name == manifest.default_set else ''}")
    _print("")
    for model in manifest.models:
        consent = f"accept {model.licence}" if manifest.needs_consent(model) else model.licence
        commercial = manifest.licence_of(model).commercial
        _print(f"{model.id:26} {megabytes(model.size):>10} MB  commercial use: {commercial:7}  {consent}")
    return 0


def _download(manifest: Manifest, options: argparse.Namespace) -> int:
    cancel = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        cancel.set()

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with _Bar() as bar:
            outcomes = download(
                manifest.select(options.names),
                options.models_dir,
                manifest,
                Options(accept_licences=options.accept_licence, replace=options.replace, parallel=options.parallel),
                progress=bar.update,
                cancel=cancel,
            )
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
    for outcome in outcomes:
        for path in outcome.files:
            _print(f"{outcome.state:10} {path} (verified: {outcome.verified})")
    return 0


def _check(manifest: Manifest, options: argparse.Namespace) -> int:
    record = Record(options.models_dir)
    wrong = 0
    for row in look(manifest.select(options.names), folders_below(options.models_dir)):
        state, entry = row.state, record.get(row.file.path)
        expected = row.file.sha256 or (entry.sha256 if entry else None)
        note = ""
        if row.path is not None and row.state == "found":
            if not options.hash:
                note = f"verified: {entry.verified}" if entry and entry.matches(row.path) else "not verified"
            elif expected is None or row.path.name != row.file.name.rpartition("/")[2]:
                note = "no hash to compare with"
            elif sha256_of(row.path) == expected:
                note = "hash is right"
            else:
                state, note = "wrong_size", "hash is wrong"
        wrong += state != "found"
        _print(f"{'wrong' if state == 'wrong_size' else state:8} {row.path or row.file.path}  {note}".rstrip())
    return 1 if wrong else 0


class _Bar:
    """All files in one progress bar; where no person watches, a line every ten seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._received: dict[str, int] = {}
        self._totals: dict[str, int] = {}
        self._bar: Any = None

    def __enter__(self) -> _Bar:
        from tqdm import tqdm

        watched = sys.stderr.isatty()
        self._bar = tqdm(
            unit="B", unit_scale=True, total=0, file=sys.stderr, mininterval=0.2 if watched else 10.0, delay=0.1
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, file: str, received: int, total: int | None) -> None:
        """See ``download.Progress``."""
        with self._lock:
            step = received - self._received.get(file, 0)
            self._received[file] = received
            self._totals[file] = total or received
            self._bar.total = sum(self._totals.values())
            self._bar.set_description(file.rpartition("/")[2], refresh=False)
            self._bar.update(step)


def _print(line: str) -> None:
    sys.stdout.write(line + "\n")


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
