"""Alignment and pasting of one face, ours against insightface's INSwapper on the same graph, on the CPU."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from types import SimpleNamespace

import numpy as np
import torch

from ...nodes.face.align import ARCFACE_128, crop_face, paste, similarity_matrix
from ...nodes.face.contracts import SWAPPERS
from ...nodes.face.onnx_engine import finished_patch
from ...tests.face import graphs
from .report import Row, lower

# Side of the square frame, and side of the aligned crop in the frame's pixels.
_CASES = ((1024, 256), (1024, 512), (2048, 512), (2048, 1024), (4096, 1024))
_REPEATS = 7


def rows() -> list[Row]:
    """Milliseconds per face without the network, whose time is measured in the same call and taken off."""
    from insightface.model_zoo.inswapper import INSwapper

    with tempfile.TemporaryDirectory() as folder:
        path = graphs.swapper(Path(folder) / "inswapper_128.onnx", emap=graphs.random_emap())
        with contextlib.redirect_stdout(io.StringIO()):
            reference = INSwapper(model_file=str(path))
        session = _Timed(reference.session)
        reference.session = session
        result = []
        for side, face in _CASES:
            frame = np.random.default_rng(0).integers(0, 255, (side, side, 3), dtype=np.uint8)
            points = ((ARCFACE_128 - 0.5) * face + side / 2).astype(np.float32)
            theirs = _milliseconds(lambda f=frame, p=points: _reference(reference, f, p), session)  # type: ignore[misc]
            image = torch.from_numpy(frame.astype(np.float32) / 255.0)
            ours = _milliseconds(lambda i=image, p=points: _ours(i, p), _Timed(None))  # type: ignore[misc]
            name = f"align and paste, frame {side}, face {face}"
            result.append(lower(name, ours, theirs, "insightface INSwapper", "ms/face"))
    return result


class _Timed:
    """A session that adds up the seconds spent in it."""

    def __init__(self, session: object) -> None:
        self._session = session
        self.seconds = 0.0

    def run(self, names: list[str], feeds: dict[str, object]) -> object:
        started = time.perf_counter()
        try:
            return self._session.run(names, feeds)  # type: ignore[attr-defined]
        finally:
            self.seconds += time.perf_counter() - started


def _milliseconds(call: Callable[[], object], session: _Timed) -> float:
    call()
    times = []
    for _ in range(_REPEATS):
        session.seconds = 0.0
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started - session.seconds)
    return 1000.0 * median(times)


def _reference(swapper: object, frame: object, points: object) -> None:
    identity = SimpleNamespace(normed_embedding=np.full(512, 512**-0.5, dtype=np.float32))
    swapper.get(frame, SimpleNamespace(kps=points), identity, paste_back=True)  # type: ignore[attr-defined]


def _ours(image: torch.Tensor, points: object) -> None:
    """What the onnx engine does around its network, in place on the frame; the crop stands for the network's output."""
    contract = SWAPPERS[0]
    matrix = similarity_matrix(points, contract.template * contract.size)  # type: ignore[arg-type]
    crop = crop_face(image, matrix, (contract.size, contract.size), border="zeros", antialias=False)
    touched = torch.zeros(image.shape[:2])
    paste(image, touched, finished_patch(crop, crop, matrix, colour_match=0.0, blend=1.0))
