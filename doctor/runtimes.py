"""onnxruntime: which build it is, and which provider a session of it really runs on."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator

from .finding import Finding
from .packages import owners_of
from .subject import Subject

_CPU = "CPUExecutionProvider"


def onnxruntime(subject: Subject) -> Iterator[Finding]:
    """Installed once, and active where it says it is: a session is started and asked for its provider."""
    owners = owners_of("onnxruntime")
    if not owners or importlib.util.find_spec("onnxruntime") is None:
        yield Finding("onnxruntime", "ok", "not installed; the onnx face engine runs its networks on torch")
        return
    if len(owners) > 1:
        yield Finding(
            "onnxruntime",
            "fail" if subject.gpu else "warn",
            f"{' and '.join(owners)} own the same files: the GPU provider may be gone",
            f"pip uninstall {' '.join(owner.partition(' ')[0] for owner in owners)}, then install the one you need",
        )
    yield from _sessions(" and ".join(owners), subject)


def _sessions(build: str, subject: Subject) -> Iterator[Finding]:
    # They need torch, whose absence is a finding of its own.
    from ..nodes.face.runtime.ort_providers import GPU_PROVIDERS, ProviderStartError, start
    from ..nodes.face.runtime.ort_providers import onnxruntime as package

    graph = identity_graph()
    start(graph, _CPU)
    built_in = [name for name in GPU_PROVIDERS if name in package().get_available_providers()]
    active, refused = [], []
    for name in built_in:
        try:
            start(graph, name)
        except ProviderStartError as error:
            refused.append(str(error))
        else:
            active.append(name)
    if active:
        yield Finding("onnx provider", "ok", f"{build}: a session runs on {active[0]}")
    elif built_in:
        yield Finding(
            "onnx provider",
            "fail" if subject.gpu else "warn",
            f"{build}: a session runs on the CPU only. {'; '.join(refused)}",
            "Install the onnxruntime-gpu that is built for the CUDA generation of torch",
        )
    elif subject.gpu:
        yield Finding(
            "onnx provider",
            "warn",
            f"{build}: a session runs on {_CPU}; this build has no GPU provider",
            "Install onnxruntime-gpu instead of onnxruntime, or let the face engine run on torch",
        )
    else:
        yield Finding("onnx provider", "ok", f"{build}: a session runs on {_CPU}")


def identity_graph() -> bytes:
    """An ONNX file with one node that hands its four numbers through."""
    from ..nodes.face.runtime.onnx_types import DataType, Graph, Model, Node, ValueInfo
    from ..nodes.face.runtime.onnx_writer import model_bytes

    ends = [ValueInfo(name, DataType.FLOAT, [4]) for name in ("x", "y")]
    graph = Graph([Node("Identity", ["x"], ["y"])], ends[:1], ends[1:], name="doctor")
    return model_bytes(Model(8, {"": 17}, graph))
