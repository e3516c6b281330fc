"""The face swap around its networks against insightface's INSwapper on one graph; batches; runtimes; all on the CPU."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from ...nodes.face.align import ARCFACE_128, paste
from ...nodes.face.contracts import SWAPPERS
from ...nodes.face.engines import Placement, SwapSettings
from ...nodes.face.onnx_engine import OnnxEngine
from ...nodes.face.recogniser import Recogniser
from ...nodes.face.runtime.ort_session import OrtSession
from ...nodes.face.runtime.session import Session
from ...nodes.face.runtime.torch_session import TorchSession
from ...nodes.face.scrfd import Scrfd
from ...nodes.face.swap import swap_faces
from ...nodes.face.swapper import Swapper
from ...nodes.face.types import Face
from ...tests.face import graphs
from ._face_measure import Network, alternated, peak_mib
from ._face_network import large_swapper, with_work
from .report import Row, higher, lower

# Side of the square frame, and side of the aligned crop in the frame's pixels.
_FRAMES, _FACES = (1024, 2048, 4096), (256, 512, 1024)
_BATCH = 8
_REPEATS = 5
_REFERENCE = "insightface INSwapper"
# Neither does more than the other: the reference matches no colours.
_PLAIN = SwapSettings(colour_match=0.0)
# Of the networks' time, for everything else.
_OVERHEAD = 0.15


def rows() -> list[Row]:
    """All of it; a few minutes on two cores."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        # insightface calls a method of scikit-image that is to go away.
        warnings.simplefilter("ignore", FutureWarning)
        folder = Path(name)
        result = [row for frame in _FRAMES for face in _FACES for row in around_network(folder, frame, face)]
        large = large_swapper(folder / "large.onnx", graphs.random_emap())
        return [*result, *batches(folder, large), overhead(folder, large), *runtimes(large)]


def around_network(folder: Path, frame: int, side: int) -> list[Row]:
    """Alignment, finish and pasting per face: time on the wall and of all threads, and memory.

    Without the network, whose time is measured in the same calls and taken off.
    """
    network = Network()
    path = graphs.swapper(folder / "inswapper_128.onnx", emap=graphs.random_emap())
    engine, reference = _engine(folder, path, network), _insightface(path, network)
    picture = np.random.default_rng(0).integers(0, 255, (frame, frame, 3), dtype=np.uint8)
    face = _face(frame / 2, frame / 2, side)
    theirs = partial(
        reference.get,
        picture,
        SimpleNamespace(kps=face.landmarks),
        SimpleNamespace(normed_embedding=np.full(512, 512**-0.5, dtype=np.float32)),
        paste_back=True,
    )
    image = torch.from_numpy(picture.astype(np.float32) / 255.0)[None]
    person = engine.identity(image[0], face)
    touched = torch.zeros(1, frame, frame)
    one, many = (
        partial(_swapped, engine, image, touched, [Placement(0, face, person)] * count) for count in (1, _BATCH)
    )
    times = alternated([theirs, one, many], network, _REPEATS)
    memory = [peak_mib(call) for call in (theirs, one, many)]
    result = []
    for place, count in ((1, 1), (2, _BATCH)):
        case = f"align and paste, frame {frame}, face {side}, batch {count}"
        ours, their = times[place], times[0]
        result += [
            lower(case, 1e3 * ours.wall / count, 1e3 * their.wall, _REFERENCE, "ms/face"),
            lower(f"{case}, all threads", 1e3 * ours.cpu / count, 1e3 * their.cpu, _REFERENCE, "CPU ms/face"),
            lower(f"{case}, peak memory", memory[place], memory[0], _REFERENCE, "MiB"),
        ]
    return result


def batches(folder: Path, network_file: Path) -> list[Row]:
    """Eight faces at once against the same eight one by one, network and all; the best of several turns of each."""
    engine = _engine(folder, network_file, Network())
    image = torch.rand(1, 1024, 1024, 3)
    person = engine.identity(image[0], _face(512, 512, 512))
    placements = [Placement(0, _face(x, y, 200), person) for x in (150, 400, 650, 900) for y in (300, 700)]
    touched = torch.zeros(1, 1024, 1024)
    ways = [[placements], [[item] for item in placements]]
    best = [float("inf")] * len(ways)
    for _ in range(_REPEATS):
        for way, groups in enumerate(ways):
            calls = [partial(_swapped, engine, image, touched, group) for group in groups]
            # Not counted: the runtime asks for its memory anew when the size of the batch changes.
            calls[0]()
            best[way] = min(best[way], sum(map(_seconds, calls)))
    together, alone = best
    return [higher("8 faces at once, network included", 8 / together, 8 / alone, "one by one", "faces/s")]


def overhead(folder: Path, network_file: Path) -> Row:
    """What a whole swap of a 1024 x 1024 image, face 512, spends outside the networks, detection included."""
    network = Network()
    face = _face(512, 512, 512)
    image = torch.rand(1, 1024, 1024, 3)
    # With about the work of det_10g, 10 GFLOP, and of w600k_r50, 12 GFLOP.
    detector = OrtSession(with_work(graphs.scrfd(folder / "det_10g.onnx"), 288, 8, 1), "cpu")
    recogniser = OrtSession(with_work(graphs.arcface(folder / "w600k_r50.onnx"), 512, 4, 3), "cpu")
    # Weights by chance are sure of nothing: the surest find is the face, and the one that is known is swapped.
    surest = max(found.score for found in Scrfd(detector, threshold=0.2).detect(image[0]))
    timed = [network.timed(session) for session in (detector, recogniser, OrtSession(network_file, "cpu"))]
    engine = OnnxEngine(Scrfd(timed[0], surest), Recogniser(timed[1]), Swapper(timed[2], SWAPPERS[0]))
    person = engine.identity(image[0], face)

    def whole() -> None:
        found = engine.detect(image)
        swap_faces(engine, image, [person], faces=replace(found, faces=((face,),)))

    whole()
    outside, inside = min((network.spent(whole) for _ in range(3)), key=lambda spent: spent[0].wall)
    share = outside.wall / inside.wall
    return lower(
        "whole swap outside its networks, frame 1024, face 512", share, _OVERHEAD, "bound", "share", limit=True
    )


def runtimes(network_file: Path) -> list[Row]:
    """The same swapper network in torch and in onnxruntime."""
    feeds = {"target": torch.rand(1, 3, 128, 128), "source": torch.rand(1, 512)}
    sessions: tuple[Session, Session] = (
        TorchSession(network_file, torch.device("cpu")),
        OrtSession(network_file, "cpu"),
    )
    for session in sessions:
        session.run(feeds)
    torch_, onnxruntime_ = (min(_seconds(lambda s=s: s.run(feeds)) for _ in range(3)) for s in sessions)  # type: ignore[misc]
    return [higher("swapper network in torch", 1 / torch_, 1 / onnxruntime_, "onnxruntime", "faces/s")]


def _engine(folder: Path, swapper: Path, network: Network) -> OnnxEngine:
    """Small networks beside the given swapper; the time in all of them goes to `network`."""
    detector, recogniser = graphs.scrfd(folder / "det_10g.onnx"), graphs.arcface(folder / "w600k_r50.onnx")
    sessions = [network.timed(OrtSession(path, "cpu")) for path in (detector, recogniser, swapper)]
    return OnnxEngine(Scrfd(sessions[0]), Recogniser(sessions[1]), Swapper(sessions[2], SWAPPERS[0]))


def _insightface(path: Path, network: Network) -> Any:
    from insightface.model_zoo.inswapper import INSwapper

    with contextlib.redirect_stdout(io.StringIO()):
        reference = INSwapper(model_file=str(path))
    reference.session = network.timed_reference(reference.session)
    return reference


def _face(x: float, y: float, side: float) -> Face:
    """An upright face whose aligned crop has this side, centred."""
    points = ((ARCFACE_128 - 0.5) * side + (x, y)).astype(np.float32)
    half = side / 2
    return Face((x - half, y - half, x + half, y + half), 1.0, points)


def _swapped(engine: OnnxEngine, images: torch.Tensor, touched: torch.Tensor, placements: Sequence[Placement]) -> None:
    """What ``swap_faces`` does once faces are found, in place."""
    for placement, patch in zip(placements, engine.patches(images, placements, _PLAIN), strict=True):
        paste(images[placement.image], touched[placement.image], patch)


def _seconds(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started
