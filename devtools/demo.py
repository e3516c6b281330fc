"""One photograph in, swapped portraits out, through the worker, the routes and ComfyUI.

Run it with ``dev.py demo``, which sets everything up first.
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

from .console import say
from .demo_page import Item, Page, render
from .demo_report import build_report, missing_faces
from .demo_worker import DemoWorker, WorkerError
from .pack import ROOT

PROMPT = "portrait of a smiling woman with brown hair, light skin, blue background"
PROFILE = "starter"
TIMEOUT_S = 900.0
MAX_BATCH = 8

_STAGES = {
    "FluxFaceLoadPhoto": "reading the photo",
    "FluxFaceLoadFaceEngine": "loading the face engine",
    "UnetLoaderGGUF": "loading the model",
    "VAELoader": "loading the decoder",
    "CLIPLoader": "loading the text encoder",
    "CLIPTextEncode": "reading the prompt",
    "SamplerCustomAdvanced": "drawing",
    "VAEDecode": "decoding",
    "FluxFaceSwapFace": "swapping the face",
    "FluxFaceSkinToneQA": "judging the skin tone",
    "FluxFaceRetry": "drawing rejected ones again",
    "FluxFaceJobOutput": "handing back",
}


class DemoError(Exception):
    """The demo did not succeed; the message is for its user."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 if every image came back with a face."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _end)
    started = time.monotonic()
    try:
        report = _run(options)
    except (DemoError, WorkerError) as error:
        say(f"Error: {error}")
        return _finish(options, {"ok": False, "error": str(error)}, 1)
    except KeyboardInterrupt:
        say("Interrupted.")
        return 130
    report["timings"]["demo_s"] = round(time.monotonic() - started, 1)
    (options.out / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if not report["ok"]:
        say(f"Error: {report['error']}")
        return _finish(options, report, 1)
    count = len(report["images"])
    say(f"Done: {count} portrait{'s' if count > 1 else ''} in {report['timings']['demo_s']} s.")
    say(f"Look at them: {(options.out / 'index.html').resolve().as_uri()}")
    return _finish(options, report, 0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="dev.py demo", description="Draw portraits, swap a photograph's face in, judge them, show them on a page."
    )
    parser.add_argument(
        "--photo", type=Path, metavar="FILE", help="photograph with one face (default: one is included)"
    )
    parser.add_argument("--prompt", default=PROMPT, help="what to draw (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=2, choices=range(1, MAX_BATCH + 1), metavar="N", help="portraits")
    parser.add_argument("--seed", type=int, metavar="N", help="repeat a run (default: a new one each time)")
    parser.add_argument(
        "--out", type=Path, default=ROOT / "demo-output", metavar="DIR", help="for the results (default: demo-output)"
    )
    parser.add_argument("--json", action="store_true", help="print the report on standard output, and nothing else")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, metavar="S", help="seconds (default: %(default)g)")
    return parser


def _run(options: argparse.Namespace) -> dict[str, Any]:
    photo = _read_photo(options.photo)
    options.out.mkdir(parents=True, exist_ok=True)
    for stale in (*options.out.glob("generated_*.png"), *options.out.glob("swapped_*.png")):
        stale.unlink()
    (options.out / "photo.png").write_bytes(_as_png(photo))
    job: dict[str, Any] = {
        "user_photo": base64.b64encode(photo).decode("ascii"),
        "prompt": options.prompt,
        "batch_size": options.batch,
        "profile": PROFILE,
        "include_generated": True,
    }
    if options.seed is not None:
        job["seed"] = options.seed
    answer = _ask_worker(options, job)
    if answer.get("status") != "COMPLETED":
        raise DemoError(str(answer.get("error") or f"the job ended as {answer.get('status')}"))
    output = answer["output"]
    swapped, generated = (
        _write(options.out, "swapped", output["images"]),
        _write(options.out, "generated", output.get("generated", [])),
    )
    if len(swapped) != options.batch or len(generated) != options.batch:
        raise DemoError(
            f"{options.batch} portraits were asked for; {len(swapped)} came back, {len(generated)} unswapped"
        )
    report = build_report(output, prompt=options.prompt, swapped=swapped, generated=generated)
    without = missing_faces(report)
    if without:
        report.update(ok=False, error=f"no face was found in {', '.join(without)}")
    _write_page(options, report)
    return report


def _ask_worker(options: argparse.Namespace, job: dict[str, Any]) -> dict[str, Any]:
    comfyui = Path(os.environ.get("COMFYUI_PATH") or ROOT / ".comfyui" / "ComfyUI")
    say("Starting the worker and, below it, ComfyUI (about half a minute) …")
    log = options.out / "worker.log"
    with DemoWorker(comfyui, ROOT / ".comfyui" / "base", log, _say_line, _Progress().say) as worker:
        return worker.runsync(job, options.timeout)


def _say_line(line: str) -> None:
    if "ComfyUI" in line and not line.startswith("job "):
        say(f"  {line}")


class _Progress:
    """Says each stage once, and the steps of drawing."""

    def __init__(self) -> None:
        self._last = ""

    def say(self, progress: dict[str, Any]) -> None:
        """One line per change of what a person would call a stage."""
        stage = _STAGES.get(progress.get("class_type", ""))
        if stage is None:
            return
        step = f", step {progress['value']} of {progress['max']}" if progress.get("max", 1) > 1 else ""
        line = f"  {stage}{step}"
        if line != self._last:
            say(line)
        self._last = line


def _read_photo(path: Path | None) -> bytes:
    if path is None:
        # A photograph in the public domain (NASA) that scikit-image ships: no download.
        import skimage

        path = Path(skimage.__file__).parent / "data" / "astronaut.png"
    try:
        return path.read_bytes()
    except OSError as error:
        raise DemoError(f"--photo: {path} cannot be read ({error.strerror})") from error


def _as_png(photo: bytes) -> bytes:
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(photo)) as picture:
            encoded = io.BytesIO()
            ImageOps.exif_transpose(picture).convert("RGB").save(encoded, "PNG")
    except (UnidentifiedImageError, OSError, Image.DecompressionBombError) as error:
        raise DemoError("--photo: the file is not a picture that can be read. Use a PNG, JPEG or WebP") from error
    return encoded.getvalue()


def _write(directory: Path, stem: str, images: list[dict[str, str]]) -> list[str]:
    names = [f"{stem}_{number}.png" for number in range(1, len(images) + 1)]
    for name, image in zip(names, images, strict=True):
        (directory / name).write_bytes(base64.b64decode(image["data"]))
    return names


def _write_page(options: argparse.Namespace, report: dict[str, Any]) -> None:
    out: Path = options.out

    def read(name: str) -> bytes:
        return (out / name).read_bytes()

    page = Page(
        prompt=options.prompt,
        photo=read("photo.png"),
        items=[Item(read(image["generated"]), read(image["swapped"]), image) for image in report["images"]],
        report=report,
    )
    (out / "index.html").write_text(render(page), encoding="utf-8")


def _finish(options: argparse.Namespace, report: dict[str, Any], code: int) -> int:
    if options.json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    return code


def _end(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
