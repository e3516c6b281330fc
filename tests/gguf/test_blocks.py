"""Dequantisation against gguf-py, bit for bit."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as GType
from hypothesis import given, settings
from hypothesis import strategies as st

from flux_face.nodes.gguf.blocks import CODECS
from flux_face.nodes.gguf.dequantize import dequantize
from flux_face.nodes.gguf.layout import dequantize_rows, pack
from flux_face.nodes.gguf.tensor_types import GEOMETRY, TensorType
from flux_face.tests.gguf.random_blocks import random_blocks

BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16, torch.float16: torch.int16}


def assert_same_bits(ours: torch.Tensor, reference: torch.Tensor) -> None:
    bits = BITS[ours.dtype]
    same = (ours.view(bits) == reference.view(bits)) | (ours.isnan() & reference.isnan())
    assert ours.dtype == reference.dtype
    assert bool(same.all()), f"{int((~same).sum())} of {same.numel()} values differ"


def oracle(blocks: np.ndarray, tensor_type: TensorType) -> torch.Tensor:
    with np.errstate(all="ignore"):
        values = gguf.dequantize(blocks, GType(int(tensor_type)))
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))


def test_types_are_those_of_gguf_py() -> None:
    for tensor_type, geometry in GEOMETRY.items():
        assert GType(int(tensor_type)).name == tensor_type.name
        assert gguf.GGML_QUANT_SIZES[GType(int(tensor_type))] == (geometry.values, geometry.bytes)


@pytest.mark.parametrize("dtype", BITS)
@pytest.mark.parametrize("tensor_type", CODECS)
@settings(max_examples=10, deadline=None)
@given(rows=st.integers(1, 5), columns=st.integers(1, 3), seed=st.integers(0, 2**32 - 1))
def test_valid_blocks(tensor_type: TensorType, dtype: torch.dtype, rows: int, columns: int, seed: int) -> None:
    geometry = GEOMETRY[tensor_type]
    values = rows * columns * geometry.values
    blocks = random_blocks(GType(int(tensor_type)), values, seed, scale=0.01)
    if tensor_type in (TensorType.F32, TensorType.F16, TensorType.BF16):
        numbers = torch.from_numpy(np.random.default_rng(seed).normal(size=values)).float()
        plain = {TensorType.F32: torch.float32, TensorType.F16: torch.float16, TensorType.BF16: torch.bfloat16}
        blocks = numbers.to(plain[tensor_type]).view(torch.uint8).numpy().reshape(-1, geometry.bytes)
    reference = oracle(blocks.reshape(rows, -1), tensor_type).reshape(rows, columns * geometry.values)
    ours = dequantize(torch.from_numpy(blocks), tensor_type, (rows, columns * geometry.values), dtype)
    assert_same_bits(ours, reference.to(dtype))


@pytest.mark.parametrize("tensor_type", CODECS)
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_any_bytes(tensor_type: TensorType, data: st.DataObject) -> None:
    """Infinite, subnormal and not-a-number scales too."""
    geometry = GEOMETRY[tensor_type]
    raw = data.draw(st.binary(min_size=4 * geometry.bytes, max_size=4 * geometry.bytes))
    blocks = np.frombuffer(raw, dtype=np.uint8).reshape(4, geometry.bytes).copy()
    ours = dequantize(torch.from_numpy(blocks), tensor_type, (4, geometry.values), torch.float32)
    assert_same_bits(ours, oracle(blocks, tensor_type).reshape(4, geometry.values))


@pytest.mark.parametrize("tensor_type", [TensorType.Q4_K, TensorType.Q6_K, TensorType.Q8_0, TensorType.IQ4_XS])
def test_size_of_a_flux_layer(tensor_type: TensorType) -> None:
    """3072 wide, so that the work is split into tiles and threads, with a remainder in the last tile."""
    shape = (1000, 3072)
    blocks = random_blocks(GType(int(tensor_type)), shape[0] * shape[1], seed=1)
    reference = oracle(blocks.reshape(shape[0], -1), tensor_type)
    for dtype in (torch.float32, torch.bfloat16):
        assert_same_bits(dequantize(torch.from_numpy(blocks), tensor_type, shape, dtype), reference.to(dtype))


def test_inference_mode_gives_the_same() -> None:
    blocks = torch.from_numpy(random_blocks(GType.Q4_K, 1 << 20, seed=2))
    outside = dequantize(blocks, TensorType.Q4_K, (1024, 1024), torch.bfloat16)
    with torch.inference_mode():
        inside = dequantize(blocks, TensorType.Q4_K, (1024, 1024), torch.bfloat16)
    assert not outside.is_inference()
    assert_same_bits(inside, outside)


def test_rows_of_an_embedding() -> None:
    blocks = torch.from_numpy(random_blocks(GType.Q6_K, 100 * 512, seed=3)).reshape(-1)
    weight = pack(blocks, TensorType.Q6_K, (100, 512), torch.float32)
    rows = torch.tensor([[3, 99, 3], [0, 41, 7]])
    assert_same_bits(dequantize_rows(weight, rows, torch.float32), weight.dequantize()[rows])
