"""T5 encoders as GGUF, alone and beside a CLIP-L from safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.ops
import comfy.sd
import gguf
import numpy as np
import pytest
import safetensors.torch
import torch
from comfy.text_encoders.t5 import T5
from comfy.weight_adapter.lora import LoRAAdapter
from gguf import GGMLQuantizationType as GType

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.gguf.architectures import t5_name
from flux_face.nodes.gguf.container import Container
from flux_face.nodes.gguf.layout import is_packed
from flux_face.nodes.gguf.loader import load_text_encoders
from flux_face.nodes.gguf.operations import GGUFOperations
from flux_face.nodes.gguf.patcher import GGUFModelPatcher
from flux_face.nodes.gguf.state_dict import read_state_dict
from flux_face.tests.gguf import tiny_flux

VOCABULARY = 32128

# llama.cpp's name, and whether the tensor is a vector, of one layer of a T5 encoder.
LAYER = {
    "attn_q.weight": ("model", "inner"),
    "attn_k.weight": ("model", "inner"),
    "attn_v.weight": ("model", "inner"),
    "attn_o.weight": ("inner", "model"),
    "ffn_up.weight": ("model", "hidden"),
    "ffn_gate.weight": ("model", "hidden"),
    "ffn_down.weight": ("hidden", "model"),
    "attn_norm.weight": ("model",),
    "ffn_norm.weight": ("model",),
}


def tensors(sizes: dict[str, int], layers: int, heads: int, vocabulary: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes, in torch's order, as llama.cpp's converter writes them."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, sizes["model"]),
        "enc.output_norm.weight": (sizes["model"],),
        "enc.blk.0.attn_rel_b.weight": (32, heads),
    }
    for layer in range(layers):
        for name, dimensions in LAYER.items():
            shapes[f"enc.blk.{layer}.{name}"] = tuple(sizes[d] for d in reversed(dimensions))
    return shapes


def write_random(path: Path, shapes: dict[str, tuple[int, ...]], tensor_type: GType) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(7)
    writer = gguf.GGUFWriter(str(path), "t5encoder")
    dense = {}
    for index, (name, shape) in enumerate(shapes.items()):
        value = torch.randn(shape, generator=generator) * 0.1 if len(shape) == 2 else torch.ones(shape)
        chosen = tensor_type if len(shape) == 2 and shape[1] % 256 == 0 else GType.F32
        data = tiny_flux.packed(chosen, value, index)
        writer.add_tensor(name, data, raw_dtype=chosen)
        dense[name] = torch.from_numpy(gguf.dequantize(data, chosen).reshape(shape).copy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return dense


def write_zeros(path: Path, shapes: dict[str, tuple[int, ...]], tensor_type: GType, architecture: str) -> None:
    """A file of full size whose data are holes: it takes no room on most file systems."""
    block_values, block_bytes = gguf.GGML_QUANT_SIZES[tensor_type]
    writer = gguf.GGUFWriter(str(path), architecture)
    total = 0
    for name, shape in shapes.items():
        chosen = tensor_type if len(shape) == 2 and shape[1] % block_values == 0 else GType.F32
        elements = int(np.prod(shape))
        size = elements // block_values * block_bytes if chosen == tensor_type else elements * 4
        writer.add_tensor_info(name, shape, np.dtype(np.float32), size, raw_dtype=chosen)
        total += -(-size // 32) * 32
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    with path.open("r+b") as file:
        file.truncate(-(-path.stat().st_size // 32) * 32 + total)


@pytest.mark.parametrize("tensor_type", [GType.Q8_0, GType.Q6_K, GType.Q4_K, GType.IQ4_NL])
def test_encoder_equals_the_native_one(tmp_path: Path, tensor_type: GType) -> None:
    config = {
        "d_ff": 512,
        "d_kv": 64,
        "d_model": 256,
        "num_heads": 4,
        "num_layers": 2,
        "vocab_size": 100,
        "model_type": "t5",
        "dense_act_fn": "gelu_pytorch_tanh",
        "is_gated_act": True,
    }
    shapes = tensors({"model": 256, "inner": 256, "hidden": 512}, layers=2, heads=4, vocabulary=100)
    dense = write_random(tmp_path / "t5.gguf", shapes, tensor_type)
    state = read_state_dict(Container(tmp_path / "t5.gguf"), torch.float32, own_memory=False)
    ours = T5(config, torch.float32, "cpu", GGUFOperations)
    theirs = T5(config, torch.float32, "cpu", comfy.ops.manual_cast)
    for model, weights in ((ours, state), (theirs, dense)):
        result = model.load_state_dict({t5_name(name): value for name, value in weights.items()}, strict=False)
        assert not result.missing_keys
        assert not result.unexpected_keys
    assert is_packed(ours.shared.weight)
    tokens = torch.tensor([[5, 99, 0, 42, 1]])
    with torch.inference_mode():
        expected = theirs(tokens, None)[0]
        assert float(expected.std()) > 0.1
        assert torch.allclose(ours(tokens, None)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def t5_xxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("t5") / "t5xxl.gguf"
    sizes = {"model": 4096, "inner": 4096, "hidden": 10240}
    write_zeros(path, tensors(sizes, layers=24, heads=64, vocabulary=VOCABULARY), GType.Q4_K, "t5encoder")
    return path


def test_flux_pair(tmp_path: Path, t5_xxl: Path, caplog: pytest.LogCaptureFixture) -> None:
    """T5-XXL in its true size beside a CLIP-L: every tensor finds its place, packed."""
    clip_l = tmp_path / "clip_l.safetensors"
    marker = torch.full((3072, 768), 0.25)
    names = [f"text_model.encoder.layers.{layer}.mlp.fc1.weight" for layer in (0, 1)]  # by which ComfyUI knows it
    safetensors.torch.save_file({name: marker.clone() for name in names}, clip_l)
    clip = load_text_encoders((clip_l, t5_xxl), comfy.sd.CLIPType.FLUX, [])
    assert isinstance(clip.patcher, GGUFModelPatcher)
    encoder: Any = clip.cond_stage_model.t5xxl.transformer
    packed = [name for name, value in encoder.state_dict().items() if is_packed(value)]
    assert len(packed) == 24 * 7 + 1
    assert not [record for record in caplog.records if "missing" in record.getMessage() and "t5" in record.getMessage()]
    fc1 = clip.cond_stage_model.clip_l.transformer.text_model.encoder.layers[0].mlp.fc1.weight
    assert torch.equal(fc1.float(), marker)
    assert clip.tokenize("a portrait")["t5xxl"]


def refusal(path: Path, *beside: Path) -> UserInputError:
    with pytest.raises(UserInputError) as caught:
        load_text_encoders((path, *beside), comfy.sd.CLIPType.FLUX, [])
    assert path.name in str(caught.value)
    return caught.value


def test_diffusion_model_is_refused(tmp_path: Path) -> None:
    tiny_flux.write(tmp_path / "flux.gguf", lambda _: GType.Q8_0)
    assert "flux is not a supported text encoder" in refusal(tmp_path / "flux.gguf").problem


def test_other_vocabulary_is_refused(tmp_path: Path) -> None:
    shapes = tensors({"model": 256, "inner": 256, "hidden": 512}, layers=1, heads=4, vocabulary=256384)
    write_zeros(tmp_path / "umt5.gguf", shapes, GType.Q4_K, "t5encoder")
    assert "256384" in refusal(tmp_path / "umt5.gguf").problem


def test_an_encoder_that_cannot_be_read_is_named(tmp_path: Path, t5_xxl: Path) -> None:
    path = tmp_path / "clip_l.safetensors"
    for content in (b"", b"no tensors here", b"\xff" * 64):
        path.write_bytes(content)
        for beside in ((), (t5_xxl,)):
            assert refusal(path, *beside).code == "clip_unreadable"


def fp8_clip_l(path: Path) -> Path:
    """A CLIP-L of two layers with one scaled fp8 weight, as converters of late 2024 wrote them."""
    names = [f"text_model.encoder.layers.{layer}.mlp.fc1.weight" for layer in (0, 1)]
    state = {name: torch.full((3072, 768), 0.25) for name in names}
    state[names[0]] = torch.full((3072, 768), 2.0).to(torch.float8_e4m3fn)
    state[names[0].replace(".weight", ".scale_weight")] = torch.tensor(0.125)
    state["scaled_fp8"] = torch.tensor([], dtype=torch.float8_e4m3fn)
    safetensors.torch.save_file(state, path)
    return path


def test_fp8_beside_gguf_is_refused_and_alone_is_comfyuis(tmp_path: Path, t5_xxl: Path) -> None:
    path = fp8_clip_l(tmp_path / "clip_l_fp8.safetensors")
    assert refusal(path, t5_xxl).code == "clip_scaled_fp8"
    clips = [
        load_text_encoders((path,), comfy.sd.CLIPType.STABLE_DIFFUSION, []),
        comfy.sd.load_clip([str(path)], [], comfy.sd.CLIPType.STABLE_DIFFUSION),
    ]
    ours, theirs = (c.cond_stage_model.clip_l.transformer.text_model.encoder.layers[0].mlp.fc1 for c in clips)
    assert type(ours) is type(theirs)
    assert torch.equal(ours.weight, theirs.weight)


def test_a_lora_on_a_packed_embedding_counts_and_goes_away(tmp_path: Path) -> None:
    write_random(tmp_path / "table.gguf", {"token_embd.weight": (100, 256)}, GType.Q8_0)
    packed = read_state_dict(Container(tmp_path / "table.gguf"), torch.float32, own_memory=False)
    model = torch.nn.Module()
    model.table = GGUFOperations.Embedding(100, 256, dtype=torch.float32)
    model.table.load_state_dict({"weight": packed["token_embd.weight"]})
    model.table.comfy_cast_weights = True
    cpu = torch.device("cpu")
    patcher = GGUFModelPatcher(model, load_device=cpu, offload_device=cpu)
    tokens = torch.tensor([[3, 99, 3]])
    before = model.table(tokens)
    generator = torch.Generator().manual_seed(1)
    up, down = torch.randn(100, 4, generator=generator), torch.randn(4, 256, generator=generator)
    patched = patcher.clone()
    adapter = LoRAAdapter({"table"}, (up, down, None, None, None, None))
    assert patched.add_patches({"table.weight": adapter}, 0.5) == ["table.weight"]
    patched.patch_model(cpu)
    torch.testing.assert_close(model.table(tokens), before + 0.5 * (up @ down)[tokens], rtol=1e-5, atol=1e-5)
    patched.unpatch_model(cpu)
    assert torch.equal(model.table(tokens), before)
