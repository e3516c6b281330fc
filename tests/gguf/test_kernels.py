"""The Triton kernels against gguf-py, bit for bit: in Triton's interpreter, and compiled where there is a GPU."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as GType
from numpy.typing import NDArray

from flux_face.devtools.pack import ROOT
from flux_face.nodes.gguf.dequantize import dequantize
from flux_face.nodes.gguf.tensor_types import GEOMETRY, TensorType
from flux_face.tests.gguf.random_blocks import HALF_OFFSETS, random_blocks
from flux_face.tests.gguf.test_blocks import BITS, assert_same_bits, oracle

PACK = ROOT / "devtools" / "pack.py"
TYPES = (
    TensorType.Q4_0, TensorType.Q4_1, TensorType.Q5_0, TensorType.Q5_1, TensorType.Q8_0, TensorType.Q2_K,
    TensorType.Q3_K, TensorType.Q4_K, TensorType.Q5_K, TensorType.Q6_K, TensorType.IQ4_NL, TensorType.IQ4_XS,
    TensorType.MXFP4,
)  # fmt: skip
ODD = "extreme scales at odd addresses"
CASES = ("tiles and a rest", "one block", ODD)

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")

Results = dict[tuple[TensorType, str, torch.dtype], torch.Tensor]


@cache
def blocks_of(tensor_type: TensorType, case: str) -> NDArray[np.uint8]:
    kind = GType(int(tensor_type))
    if case == "one block":
        return random_blocks(kind, GEOMETRY[tensor_type].values, seed=1)
    if case == "tiles and a rest":
        return random_blocks(kind, 2 * 2048 + 768, seed=2)
    blocks = random_blocks(kind, 8192, seed=3)
    rng = np.random.default_rng(3)
    limits = np.array([0.0, -0.0, 2.0**-24, -(2.0**-15), 2.0**-14, 1.0, -65504.0, 65504.0], dtype="<f2")
    for start in HALF_OFFSETS.get(kind, ()):
        blocks[:, start : start + 2] = rng.choice(limits, len(blocks)).view(np.uint8).reshape(-1, 2)
    if tensor_type is TensorType.MXFP4:
        blocks[:, 0] = rng.choice(np.array([0, 1, 2, 127, 253, 254, 255]), len(blocks))
    return blocks


def run(*arguments: str, **environment: str) -> list[str]:
    """Runs Python in a process of its own; returns the lines it printed."""
    plain = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env={**plain, **environment})
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture(scope="module", params=["interpreter", pytest.param("cuda", marks=needs_gpu)])
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Results:
    keys = list(product(TYPES, CASES, BITS))
    jobs = [(int(kind), torch.from_numpy(blocks_of(kind, case)), dtype, int(case == ODD)) for kind, case, dtype in keys]
    if request.param == "cuda":
        from flux_face.tests.gguf import kernel_jobs

        return dict(zip(keys, kernel_jobs.run(jobs, "cuda"), strict=True))
    path = tmp_path_factory.mktemp("kernels") / "jobs.pt"
    torch.save(jobs, path)
    run(str(PACK), "tests.gguf.kernel_jobs", str(path), TRITON_INTERPRET="1")
    return dict(zip(keys, torch.load(path), strict=True))


@needs_triton
@pytest.mark.parametrize("dtype", BITS, ids=str)
@pytest.mark.parametrize("tensor_type", TYPES, ids=lambda tensor_type: tensor_type.name)
def test_values(results: Results, tensor_type: TensorType, dtype: torch.dtype) -> None:
    for case in CASES:
        framed = results[tensor_type, case, dtype]
        reference = oracle(blocks_of(tensor_type, case), tensor_type).reshape(-1).to(dtype)
        margin = (len(framed) - len(reference)) // 2
        assert margin > 0
        assert_same_bits(framed[margin:-margin], reference)
        assert bool((framed[:margin] == 7).all())
        assert bool((framed[-margin:] == 7).all())


@needs_triton
@pytest.mark.parametrize(
    ("target", "fused"),
    [
        (("cuda", 75, 32), r"fma\.rn|\.ftz"),
        (("cuda", 90, 32), r"fma\.rn|\.ftz"),
        # AMD's mixed multiply-add of a float16 and minus zero is a product.
        (("hip", "gfx942", 64), r"v_(?:pk_)?(?:fma|fmac|mad|mac)_(?!.*neg\(0\))"),
        (("hip", "gfx1100", 32), r"v_(?:pk_|dual_)?(?:fma|fmac|mad|mac)_(?!.*neg\(0\))"),
    ],
    ids=["Turing", "Hopper", "CDNA 3", "RDNA 3"],
)
def test_compiles_without_fused_arithmetic(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: tuple[str, int | str, int], fused: str
) -> None:
    """Triton brings the compilers, so the GPU itself is not needed."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    for tensor_type in TYPES:
        code = compiled(tensor_type, target)
        assert not re.findall(fused, code), tensor_type.name
        if target == ("cuda", 90, 32):
            assert code.count("cvt.rn.bf16x2.f32") == 8  # to nearest even


def compiled(tensor_type: TensorType, target: tuple[str, int | str, int]) -> str:
    """The assembly of a kernel that writes bfloat16."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from flux_face.nodes.gguf.kernels.expand import OPTIONS, constants, expand_kernel

    fixed = constants(tensor_type)
    signature = {"packed": "*u8", "out": "*bf16", "blocks": "i32", **dict.fromkeys(fixed, "constexpr")}
    aligned = {(0,): [["tt.divisibility", 16]], (1,): [["tt.divisibility", 16]]}
    source = ASTSource(expand_kernel, signature, fixed, aligned)
    kernel = triton.compile(source, target=GPUTarget(*target), options=OPTIONS)
    code: str = kernel.asm["ptx" if target[0] == "cuda" else "amdgcn"]
    return code


def run_code(code: str) -> list[str]:
    prelude = (
        "import logging, runpy, sys, torch\n"
        f"runpy.run_path({str(PACK)!r})['load_pack']()\n"
        "from flux_face.nodes.gguf.dequantize import dequantize\n"
        "from flux_face.nodes.gguf.kernels import try_expand\n"
        "from flux_face.nodes.gguf.tensor_types import TensorType\n"
        "logging.basicConfig(stream=sys.stdout, format='log %(message)s')\n"
        "blocks = torch.randint(0, 64, (64, 144), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))\n"
        "out = torch.empty(64, 256)\n"
    )
    return run("-c", prelude + code)


WITHOUT_TRITON = "sys.modules['triton'] = None\n"
TRY_TWICE = "print(*(try_expand(blocks, TensorType.Q4_K, out) for _ in range(2)))\n"
ON_GPU = (
    "values = dequantize(blocks.cuda(), TensorType.Q4_K, (64, 256), torch.bfloat16).cpu()\n"
    "print(torch.equal(values, dequantize(blocks, TensorType.Q4_K, (64, 256), torch.bfloat16)))\n"
)


def test_triton_is_not_imported_for_the_cpu() -> None:
    code = "dequantize(blocks, TensorType.Q4_K, (64, 256), torch.bfloat16)\nprint('triton' in sys.modules)"
    assert run_code(code) == ["False"]


def test_missing_triton_is_said_once() -> None:
    said, answers = run_code(WITHOUT_TRITON + TRY_TWICE)
    assert said.startswith("log GGUF weights are dequantised without Triton: ModuleNotFoundError: ")
    assert answers == "False False"


@needs_triton
def test_failing_kernel_is_said_once() -> None:
    """A compiled kernel cannot take the memory of the CPU."""
    said, answers = run_code(TRY_TWICE)
    assert said.startswith("log GGUF weights are dequantised without Triton: ")
    assert "Error: " in said
    assert answers == "False False"


@needs_triton
def test_type_without_kernel_is_left_to_torch() -> None:
    assert run_code("print(try_expand(blocks, TensorType.TQ2_0, out))") == ["False"]


@needs_gpu
def test_gpu_without_triton() -> None:
    said, equal = run_code(WITHOUT_TRITON + ON_GPU)
    assert "ModuleNotFoundError" in said
    assert equal == "True"


@needs_gpu
@needs_triton
def test_gpu_with_triton() -> None:
    assert run_code(ON_GPU + "print('flux_face.nodes.gguf.kernels.expand' in sys.modules)") == ["True", "True"]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
def test_rows_with_gaps(device: str) -> None:
    rows = torch.from_numpy(random_blocks(GType.Q6_K, 6 * 256, seed=4))
    expected = dequantize(rows[::2].clone(), TensorType.Q6_K, (3, 256), torch.float16)
    assert_same_bits(dequantize(rows.to(device)[::2], TensorType.Q6_K, (3, 256), torch.float16).cpu(), expected)


@needs_gpu
@needs_triton
def test_more_than_two_to_the_31_values() -> None:
    if torch.cuda.mem_get_info()[0] < 8 << 30:
        pytest.skip("needs 8 GB of free GPU memory")
    rows = (1 << 31) // 4096 + 1
    packed = torch.zeros(rows, 4096 // 32 * 18, dtype=torch.uint8, device="cuda")
    last = torch.from_numpy(random_blocks(GType.Q4_0, 4096, seed=5)).view(1, -1)
    packed[-1:] = last.cuda()
    values = dequantize(packed, TensorType.Q4_0, (rows, 4096), torch.bfloat16)
    assert_same_bits(values[-1:].cpu(), dequantize(last, TensorType.Q4_0, (1, 4096), torch.bfloat16))
    assert not values[:-1].any()
