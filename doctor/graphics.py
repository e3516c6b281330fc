"""torch, the CUDA it was built for, and whether driver and GPU suit it."""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .finding import Finding
from .subject import Subject

# The oldest Linux driver of each CUDA generation; within a generation every release runs on it.
# https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
_DRIVERS = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
_LIBRARIES = ("libcuda.so.1", "nvcuda.dll")


def torch_and_gpu(subject: Subject) -> Iterator[Finding]:
    """What torch is, then the driver, then the GPUs, each with a sum computed on it."""
    try:
        torch: Any = importlib.import_module("torch")
    except ImportError as error:
        yield Finding("torch", "fail", f"cannot be imported: {error}", "Install ComfyUI's requirements")
        return
    cuda: str | None = torch.version.cuda
    hip: str | None = torch.version.hip
    build = f"built for CUDA {cuda}" if cuda else f"built for ROCm {hip}" if hip else "built without CUDA"
    yield Finding("torch", "ok", f"torch {torch.__version__}, {build}")
    if cuda:
        driver = driver_cuda()
        yield from _driver(driver, cuda, subject)
        if driver is not None and driver[0] >= _major(cuda):
            yield from _gpus(torch, "cuda", torch.cuda.device_count() if torch.cuda.is_available() else 0, subject)
            yield from _triton()
    # torch before 2.6 has no such module.
    elif hasattr(torch, "accelerator") and torch.accelerator.is_available():
        kind = torch.accelerator.current_accelerator().type
        yield from _gpus(torch, kind, torch.accelerator.device_count(), subject)
    else:
        yield _no_gpu(subject, "this torch has no GPU support", "Install a torch that is built for the GPU")


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA that the NVIDIA driver supports; None where there is no driver."""
    for name in _LIBRARIES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        version = ctypes.c_int()
        # cuda.h: CUresult cuDriverGetVersion(int *driverVersion), e.g. 13000; needs no GPU and no cuInit.
        if library.cuDriverGetVersion(ctypes.byref(version)) == 0 and version.value:
            return version.value // 1000, version.value % 1000 // 10
    return None


def _driver(driver: tuple[int, int] | None, cuda: str, subject: Subject) -> Iterator[Finding]:
    if driver is None:
        yield _no_gpu(
            subject,
            "no NVIDIA driver in sight",
            "Install the driver; for a container also the NVIDIA Container Toolkit, and start it with --gpus all",
        )
        return
    supports = f"the NVIDIA driver supports CUDA up to {driver[0]}.{driver[1]}"
    if driver[0] >= _major(cuda):
        yield Finding("driver", "ok", supports)
        return
    wanted = _DRIVERS.get(_major(cuda))
    newer = f"Update the driver to {wanted} or newer" if wanted else "Update the driver"
    yield Finding(
        "driver",
        "fail" if subject.gpu else "warn",
        f"too old: {supports}, torch is built for {cuda}",
        f"{newer}, or choose machines with CUDA {_major(cuda)}",
    )


def _gpus(torch: Any, kind: str, count: int, subject: Subject) -> Iterator[Finding]:
    if not count:
        yield _no_gpu(
            subject, "the driver shows no GPU to this process", "Look at nvidia-smi and NVIDIA_VISIBLE_DEVICES"
        )
    module = getattr(torch, kind)
    for index in range(count):
        name = module.get_device_name(index) if hasattr(module, "get_device_name") else kind
        try:
            right = torch.ones(64, device=f"{kind}:{index}").sum().item() == 64
        # torch raises RuntimeError and its subclasses: no kernels for this GPU, out of memory, a broken driver.
        except RuntimeError as error:
            yield Finding("gpu", "fail", f"{name} cannot compute: {error}", "Use a GPU that this torch supports")
            continue
        if not right:
            yield Finding("gpu", "fail", f"{name} computes wrongly", "Do not use this GPU")
            continue
        memory = ""
        if hasattr(module, "mem_get_info"):
            free, total = module.mem_get_info(index)
            memory = f", {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
        yield Finding("gpu", "ok", f"{name}{memory}")


def _triton() -> Iterator[Finding]:
    """Triton, which under Linux builds its launcher with the system's C compiler when the first kernel runs."""
    if sys.platform != "linux" or importlib.util.find_spec("triton") is None:
        return
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    header = Path(sysconfig.get_path("include"), "Python.h")
    if compiler and header.is_file():
        yield Finding("triton", "ok", f"kernels are built with {compiler}")
        return
    missing = [what for what, there in (("a C compiler", compiler), (str(header), header.is_file())) if not there]
    yield Finding(
        "triton",
        "warn",
        f"GGUF weights are dequantised without its kernels, more slowly: {' and '.join(missing)} is missing",
        "On Debian and Ubuntu: apt-get install gcc libc6-dev python3-dev",
    )


def _no_gpu(subject: Subject, what: str, remedy: str) -> Finding:
    if subject.gpu:
        return Finding("gpu", "fail", what, remedy)
    return Finding("gpu", "warn", f"{what}: jobs run on the CPU", remedy)


def _major(version: str) -> int:
    return int(version.partition(".")[0])
