"""GGUF weights on this machine's CPU: expansion, loading, LoRA; and expansion on its GPU where it has one.

The reference for expansion is gguf-py's float32 in the same run; the limit is torch's copy of a dense tensor of the
same size and dtype. On the GPU the reference is the same expansion by torch's operations, and the limit the rate at
which a large copy reads and writes. Each is the best of several alternating runs, so that a busy machine disturbs both
alike.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import psutil
import torch
from gguf import GGMLQuantizationType as GType

from .report import Row, higher, lower

SHAPE = (3072, 12288)  # the widest matrices of Flux
TYPES = ("Q4_0", "Q4_K", "Q5_K", "Q6_K", "Q8_0", "IQ4_XS")
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
REPEATS = 7
MEMORY_FILE_MATRICES = 8
LAUNCHES = 20  # per time taken on a GPU, whose clock ticks coarsely
COPY_BYTES = 1 << 30  # far beyond a GPU's cache


def rows() -> list[Row]:
    """Measure; about two minutes on two idle cores."""
    from comfy.cli_args import args

    args.cpu = True  # before ComfyUI looks for a GPU
    return [*expansion_rows(), *device_rows(), *loading_rows(), *lora_rows()]


def expansion_rows() -> list[Row]:
    """Elements per second for every type and dtype."""
    from flux_face.nodes.gguf.dequantize import dequantize_into
    from flux_face.nodes.gguf.tensor_types import TensorType
    from flux_face.tests.gguf.random_blocks import random_blocks

    elements = SHAPE[0] * SHAPE[1]
    result, ratios = [], []
    for type_name in TYPES:
        blocks = random_blocks(GType[type_name], elements, seed=1).reshape(SHAPE[0], -1)
        packed = torch.from_numpy(blocks)
        for dtype_name, dtype in DTYPES.items():
            out = torch.ones(SHAPE, dtype=dtype)  # in use already, as a layer's workspace is
            dense = torch.ones(SHAPE, dtype=dtype)
            ours, reference, limit = _best(
                partial(dequantize_into, packed, TensorType[type_name], out),
                partial(gguf.dequantize, blocks, GType[type_name]),
                partial(out.copy_, dense),
            )
            case = f"{type_name} to {dtype_name}"
            ratios.append((dtype_name, reference / ours))
            unit = "elements/s"
            result.append(higher(case, elements / ours, elements / reference, "gguf-py float32", unit))
            result.append(higher(case, elements / ours, elements / limit, "torch copy", unit, limit=True))
    for dtype_name in DTYPES:
        mean = statistics.geometric_mean(ratio for name, ratio in ratios if name == dtype_name)
        result.append(higher(f"geometric mean to {dtype_name}", mean, 1.0, "gguf-py float32", "times"))
    return result


def device_rows() -> list[Row]:
    """The same on the GPU: memory read and written per second, and elements per second."""
    if not torch.cuda.is_available():
        return []
    from flux_face.nodes.gguf.dequantize import dequantize_into, expand_in_tiles
    from flux_face.nodes.gguf.tensor_types import GEOMETRY, TensorType
    from flux_face.tests.gguf.random_blocks import random_blocks

    source = torch.ones(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    elements = SHAPE[0] * SHAPE[1]
    result = []
    for type_name in TYPES:
        kind = TensorType[type_name]
        geometry = GEOMETRY[kind]
        blocks = torch.from_numpy(random_blocks(GType[type_name], elements, seed=1)).cuda()
        for dtype_name, dtype in DTYPES.items():
            out = torch.empty(len(blocks), geometry.values, dtype=dtype, device="cuda")
            ours, tiled, copy = _best(
                partial(dequantize_into, blocks, kind, out),
                partial(expand_in_tiles, blocks, kind, out),
                partial(target.copy_, source),
                seconds=_device_seconds,
            )
            case = f"{type_name} to {dtype_name} on the GPU"
            moved = blocks.nbytes + out.nbytes
            result.append(higher(case, moved / ours, 2 * COPY_BYTES / copy, "device copy", "bytes/s", limit=True))
            result.append(higher(case, elements / ours, elements / tiled, "torch operations", "elements/s"))
    return result


def loading_rows() -> list[Row]:
    """Time to open a file and read every weight once, and the memory that takes."""
    from flux_face.nodes.gguf.container import Container
    from flux_face.nodes.gguf.state_dict import read_state_dict

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "matrices.gguf"
        _write_matrices(path)
        size = path.stat().st_size
        with _peak_memory() as peak:
            start = time.perf_counter()
            state: dict[str, Any] = read_state_dict(Container(path), torch.bfloat16, own_memory=False)
            for value in state.values():
                value._qdata.amax()
            loading = time.perf_counter() - start
        start = time.perf_counter()
        content = path.read_bytes()
        reading = time.perf_counter() - start
        del state, content
    return [
        lower("load and read every weight, peak memory", peak[0], size, "file size", "bytes", limit=True),
        lower("load and read every weight, time", loading, reading, "reading the file", "s"),
    ]


def lora_rows() -> list[Row]:
    """One sampling step of a tiny Flux with LoRAs on every attention layer, against the same step without."""
    import comfy.sample
    import comfy.sd

    from flux_face.nodes.gguf.loader import Residency, load_diffusion_model
    from flux_face.tests.gguf import tiny_flux

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "tiny.gguf"
        weights = tiny_flux.make_weights()
        tiny_flux.write(path, lambda _: GType.Q4_K, weights=weights)
        plain = load_diffusion_model(path, residency=Residency.PACKED)
        layers = [name.removesuffix(".weight") for name in weights if name.endswith(("qkv.weight", "linear1.weight"))]

        def with_loras(count: int) -> Any:
            model = plain
            for seed in range(count):
                model, _ = comfy.sd.load_lora_for_models(model, None, _lora(layers, weights, seed), 0.5, 0)
            return model

        generator = torch.Generator().manual_seed(1)
        context = torch.randn(1, 64, tiny_flux.CONTEXT, generator=generator)
        conditioning = [[context, {"pooled_output": torch.randn(1, 768, generator=generator)}]]
        noise = torch.randn(1, 16, 32, 32, generator=generator)

        def sample(model: Any, steps: int) -> Callable[[], object]:
            return lambda: comfy.sample.sample(
                model,
                noise,
                steps,
                1.0,
                "euler",
                "simple",
                conditioning,
                conditioning,
                noise,
                disable_pbar=True,
                seed=1,
            )

        result = []
        steps = 4
        times = {}
        for count in (0, 1, 3):
            model = with_loras(count)
            sample(model, 1)()  # puts the patches on
            times[count] = min(_seconds(sample(model, steps)) for _ in range(REPEATS)) / steps
        for count in (1, 3):
            name = f"sampling step with {count} LoRA{'s' if count > 1 else ''}"
            result.append(lower(name, times[count], times[0], "no LoRA", "s", limit=True))
    return result


def _lora(layers: list[str], weights: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for layer in layers:
        height, width = weights[f"{layer}.weight"].shape
        state[f"diffusion_model.{layer}.lora_up.weight"] = torch.randn(height, 16, generator=generator) * 0.01
        state[f"diffusion_model.{layer}.lora_down.weight"] = torch.randn(16, width, generator=generator) * 0.01
    return state


def _write_matrices(path: Path) -> None:
    from flux_face.tests.gguf.random_blocks import random_blocks

    writer = gguf.GGUFWriter(str(path), "flux")
    blocks = random_blocks(GType.Q8_0, SHAPE[0] * SHAPE[1], seed=2).reshape(SHAPE[0], -1)
    for index in range(MEMORY_FILE_MATRICES):
        writer.add_tensor(f"matrix.{index}.weight", np.roll(blocks, index, axis=0), raw_dtype=GType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """The growth of this process's resident memory, at its peak, in bytes."""
    process = psutil.Process()
    start = process.memory_info().rss
    peak = [0]
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.002):
            peak[0] = max(peak[0], process.memory_info().rss - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def _seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def _device_seconds(action: Callable[[], object]) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    for _ in range(LAUNCHES):
        action()
    end.record()
    end.synchronize()
    milliseconds: float = start.elapsed_time(end)
    return milliseconds / 1000 / LAUNCHES


def _best(*actions: Callable[[], object], seconds: Callable[[Callable[[], object]], float] = _seconds) -> list[float]:
    """The shortest time of each, in seconds, over alternating runs."""
    best = [float("inf")] * len(actions)
    for _ in range(REPEATS):
        for index, action in enumerate(actions):
            best[index] = min(best[index], seconds(action))
    return best
