"""One block of Flux in its true size, 3072 wide, against the same block with dense weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.ldm.flux.layers
import comfy.ldm.flux.math
import comfy.ops
import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as GType

from flux_face.nodes.gguf.container import Container
from flux_face.nodes.gguf.layout import is_packed
from flux_face.nodes.gguf.low_rank import LowRankTerm
from flux_face.nodes.gguf.operations import GGUFOperations
from flux_face.nodes.gguf.state_dict import read_state_dict
from flux_face.tests.gguf.random_blocks import random_blocks

HIDDEN, HEADS, TOKENS = 3072, 24, 24
TYPES = {"linear1": GType.Q4_K, "linear2": GType.Q6_K, "modulation.lin": GType.Q5_K}


def block(operations: Any, dtype: torch.dtype) -> Any:
    return comfy.ldm.flux.layers.SingleStreamBlock(HIDDEN, HEADS, dtype=dtype, operations=operations)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, torch.Tensor]]:
    """The file, and gguf-py's float32 of it."""
    path = tmp_path_factory.mktemp("block") / "block.gguf"
    with torch.device("meta"):
        shapes = {
            name: value.shape
            for name, value in block(comfy.ops.disable_weight_init, torch.float32).state_dict().items()
        }
    writer = gguf.GGUFWriter(str(path), "flux")
    dense = {}
    for index, (name, shape) in enumerate(shapes.items()):
        if len(shape) == 2:
            chosen = TYPES[name.removesuffix(".weight")]
            data = random_blocks(chosen, shape.numel(), index, scale=2e-5).reshape(shape[0], -1)
        else:
            chosen = GType.F32
            data = torch.full(shape, 1.0 if "norm" in name else 0.01).numpy()
        writer.add_tensor(name, data, raw_dtype=chosen)
        dense[name] = torch.from_numpy(gguf.dequantize(data, chosen).reshape(shape).copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path, dense


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_block_equals_the_dense_one(weights: tuple[Path, dict[str, torch.Tensor]], dtype: torch.dtype) -> None:
    path, dense = weights
    ours, theirs = block(GGUFOperations, dtype), block(comfy.ops.manual_cast, dtype)
    ours.load_state_dict(read_state_dict(Container(path), dtype, own_memory=False), assign=True)
    theirs.load_state_dict(dense)
    assert is_packed(ours.linear1.weight)
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(1, TOKENS, HIDDEN, generator=generator).to(dtype)
    vector = torch.randn(1, HIDDEN, generator=generator).to(dtype)
    position = torch.randn(1, 1, TOKENS, HIDDEN // HEADS // 2, 2, 2, generator=generator)
    up, down = (
        torch.randn(theirs.linear1.weight.shape[0], 8, generator=generator),
        torch.randn(8, HIDDEN, generator=generator),
    )
    with torch.inference_mode():
        expected = theirs(tokens.clone(), vector, position)
        assert float((expected - tokens).float().std()) > 0.05  # the weights matter
        # The same products of the same weights: only a LoRA beside the product rounds elsewhere than one inside.
        assert torch.equal(ours(tokens.clone(), vector, position), expected)
        ours.linear1.low_rank_terms = (LowRankTerm(up, down, 1e-4),)
        theirs.linear1.weight.copy_(dense["linear1.weight"] + 1e-4 * up @ down)
        expected = theirs(tokens.clone(), vector, position)
        difference = (ours(tokens.clone(), vector, position) - expected).float()
    assert float(difference.norm() / expected.float().norm()) < (2e-5 if dtype == torch.float32 else 1e-2)
