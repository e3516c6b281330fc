"""A tiny Flux as GGUF in ComfyUI's own sampler, against the native model with the same dequantised weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.hooks
import comfy.sample
import comfy.sd
import comfy.utils
import gguf
import pytest
import safetensors.torch
import torch
from comfy_extras.nodes_lora_extract import LORAType, calc_lora_model
from comfy_extras.nodes_model_merging import ModelMergeSimple, ModelSubtract
from gguf import GGMLQuantizationType as GType

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.gguf.layout import is_packed
from flux_face.nodes.gguf.loader import LoadOptions, Residency, load_diffusion_model
from flux_face.tests.gguf import tiny_flux

# Relative to the size of the outcome; float32 sums in another order.
SAME = 2e-5
LORA_LAYERS = ("double_blocks.0.img_attn.qkv", "single_blocks.1.linear1", "img_in", "final_layer.linear")

TYPES: dict[str, tiny_flux.Choose] = {
    "F32": lambda _: GType.F32,
    "F16": lambda _: GType.F16,
    "BF16": lambda _: GType.BF16,
    "Q8_0": lambda _: GType.Q8_0,
    "Q4_0": lambda _: GType.Q4_0,
    "Q4_K and Q6_K": lambda name: GType.Q4_K if "double" in name else GType.Q6_K,
    "Q5_K and IQ4_XS": lambda name: GType.Q5_K if "double" in name else GType.IQ4_XS,
    "once at load": lambda name: GType.IQ3_S if "double" in name else GType.Q8_0,
}


def sample(model: Any, hooks: Any = None) -> torch.Tensor:
    noise = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(2)
    context = torch.randn(1, 16, tiny_flux.CONTEXT, generator=generator)
    conditioning = [[context, {"pooled_output": torch.randn(1, 768, generator=generator)}]]
    if hooks is not None:
        conditioning = comfy.hooks.set_hooks_for_conditioning(conditioning, hooks)
    latent = torch.zeros(1, 16, 8, 8)
    result: torch.Tensor = comfy.sample.sample(
        model, noise, 2, 1.0, "euler", "simple", conditioning, conditioning, latent, disable_pbar=True, seed=1
    )
    assert bool(result.isfinite().all())
    return result


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def native(dense: dict[str, torch.Tensor]) -> Any:
    return comfy.sd.load_diffusion_model_state_dict({name: value.clone() for name, value in dense.items()})


def lora(layers: tuple[str, ...], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    weights = tiny_flux.make_weights()
    state = {}
    for layer in layers:
        rows, columns = weights[f"{layer}.weight"].shape
        state[f"diffusion_model.{layer}.lora_up.weight"] = torch.randn(rows, 4, generator=generator) * 0.05
        state[f"diffusion_model.{layer}.lora_down.weight"] = torch.randn(4, columns, generator=generator) * 0.05
        state[f"diffusion_model.{layer}.alpha"] = torch.tensor(2.0)
    return state


def split_lora() -> dict[str, torch.Tensor]:
    """A LoRA in the diffusers format: ComfyUI maps its values onto the last third of the fused matrix."""
    generator = torch.Generator().manual_seed(5)
    base = "transformer.transformer_blocks.0.attn.to_v"
    return {
        f"{base}.lora_A.weight": torch.randn(4, 256, generator=generator) * 0.05,
        f"{base}.lora_B.weight": torch.randn(256, 4, generator=generator) * 0.05,
    }


def full_difference() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(6)
    return {"diffusion_model.double_blocks.0.img_attn.qkv.diff": torch.randn(768, 256, generator=generator) * 0.02}


def with_lora(model: Any, state: dict[str, torch.Tensor], strength: float = 0.8) -> Any:
    return comfy.sd.load_lora_for_models(model, None, state, strength, 0)[0]


class Pair:
    """One GGUF file loaded by us and the same weights in a native model."""

    def __init__(self, folder: Path, choose: tiny_flux.Choose, seed: int = 0) -> None:
        self.path = folder / "tiny.gguf"
        self.dense = tiny_flux.write(self.path, choose, weights=tiny_flux.make_weights(seed))
        self.native = native(self.dense)
        self.packed = load_diffusion_model(self.path, residency=Residency.PACKED)
        self.expected = sample(self.native)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("pair"), TYPES["Q4_K and Q6_K"])


@pytest.mark.parametrize("choose", TYPES.values(), ids=TYPES.keys())
@pytest.mark.parametrize("residency", [Residency.PACKED, Residency.EXPANDED])
def test_output_equals_the_native_model(tmp_path: Path, choose: tiny_flux.Choose, residency: Residency) -> None:
    dense = tiny_flux.write(tmp_path / "tiny.gguf", choose)
    ours = load_diffusion_model(tmp_path / "tiny.gguf", residency=residency)
    assert distance(sample(ours), sample(native(dense))) < SAME


def test_prefix_and_unnamed_architecture(tmp_path: Path, pair: Pair) -> None:
    path = tmp_path / "prefixed.gguf"
    tiny_flux.write(path, TYPES["Q4_K and Q6_K"], prefix="model.diffusion_model.", architecture="pig")
    assert distance(sample(load_diffusion_model(path)), pair.expected) < SAME


def test_reports_true_parameters_and_memory(pair: Pair) -> None:
    parameters = sum(value.numel() for value in pair.dense.values())
    assert comfy.utils.calculate_parameters(pair.packed.model.diffusion_model.state_dict()) == parameters
    packed_bytes = sum(info.stat().st_size for info in [pair.path])
    assert 0.9 * packed_bytes < pair.packed.model_size() < 1.02 * packed_bytes


def test_choice_of_residency_is_logged(pair: Pair, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        model = load_diffusion_model(pair.path)
    assert "weights expanded once (auto asked" in caplog.text
    assert not list(model.packed_modules())


PATCHES = {
    "one LoRA": [lora(LORA_LAYERS, 3)],
    "two LoRAs": [lora(LORA_LAYERS, 3), lora(LORA_LAYERS[:2], 4)],
    "part of a matrix": [split_lora()],
    "full difference": [full_difference()],
    "LoRA and difference": [lora(LORA_LAYERS, 3), full_difference()],
}


@pytest.mark.parametrize("states", PATCHES.values(), ids=PATCHES.keys())
def test_lora_equals_native_and_goes_away(pair: Pair, states: list[dict[str, torch.Tensor]]) -> None:
    before = sample(pair.packed)
    ours, theirs = pair.packed, pair.native
    for state in states:
        ours, theirs = with_lora(ours, state), with_lora(theirs, state)
    expected = sample(theirs)
    assert distance(expected, pair.expected) > 1e-3  # the patches matter
    assert distance(sample(ours), expected) < SAME
    assert distance(sample(ours), expected) < SAME  # and are put on once
    assert torch.equal(sample(pair.packed), before)
    pair.native.detach()


def test_plain_lora_leaves_the_weight_alone(pair: Pair) -> None:
    patched = with_lora(pair.packed, lora(LORA_LAYERS[:2], 3))
    sample(patched)
    terms = {key for key, module in patched.packed_modules() if module.low_rank_terms}
    assert terms == {f"diffusion_model.{layer}.weight" for layer in LORA_LAYERS[:2]}
    assert all(not module.weight_function for _, module in patched.packed_modules())
    sample(pair.packed)
    assert not any(module.low_rank_terms for _, module in pair.packed.packed_modules())


def test_partial_load_applies_patches_once(pair: Pair) -> None:
    """What ``--lowvram`` does: part of the layers stays offloaded and takes patches as functions."""
    patched = with_lora(with_lora(pair.packed, lora(LORA_LAYERS, 3)), full_difference())
    expected = sample(with_lora(with_lora(pair.native, lora(LORA_LAYERS, 3)), full_difference()))
    size = patched.model_size()
    patched.detach()
    patched.patch_model(patched.load_device, lowvram_model_memory=size // 2)
    assert patched.model.model_lowvram
    assert distance(sample(patched), expected) < SAME
    patched.partially_unload(patched.offload_device, size // 4)
    assert distance(sample(patched), expected) < SAME
    patched.detach()
    assert distance(sample(pair.packed), pair.expected) < SAME


def test_lora_as_a_hook_of_the_conditioning(pair: Pair) -> None:
    """ComfyUI's hooks patch weights for one conditioning only, between two evaluations of the model."""
    hooks = comfy.hooks.create_hook_lora(lora(LORA_LAYERS, 3), 0.8, 0.0)
    expected = sample(with_lora(pair.native, lora(LORA_LAYERS, 3)))
    assert distance(sample(pair.native, hooks), expected) < SAME
    assert distance(sample(pair.packed, hooks), expected) < SAME
    assert distance(sample(pair.packed), pair.expected) < SAME
    pair.native.detach()


def test_bypass_lora(pair: Pair) -> None:
    state = lora(LORA_LAYERS, 3)
    ours = comfy.sd.load_bypass_lora_for_models(pair.packed, None, state, 0.8, 0)[0]
    theirs = comfy.sd.load_bypass_lora_for_models(pair.native, None, state, 0.8, 0)[0]
    assert distance(sample(ours), sample(theirs)) < SAME


def test_saving_gives_dense_weights(tmp_path: Path, pair: Pair) -> None:
    state = lora(LORA_LAYERS, 3)
    patched = with_lora(pair.packed, state)
    expected = sample(patched)
    comfy.utils.save_torch_file(patched.state_dict_for_saving(), str(tmp_path / "saved.safetensors"))
    saved = safetensors.torch.load_file(tmp_path / "saved.safetensors")
    assert {value.dtype for value in saved.values()} == {torch.float32}
    assert distance(sample(comfy.sd.load_diffusion_model(str(tmp_path / "saved.safetensors"))), expected) < SAME


def test_merge_and_lora_extraction(tmp_path: Path, pair: Pair) -> None:
    other = Pair(tmp_path, TYPES["Q4_0"], seed=5)
    merged = ModelMergeSimple().merge(pair.packed, other.packed, 0.3)[0]
    reference = ModelMergeSimple().merge(pair.native, other.native, 0.3)[0]
    assert distance(sample(merged), sample(reference)) < SAME

    def extract(model1: Any, model2: Any) -> dict[str, torch.Tensor]:
        difference = ModelSubtract().merge(model1, model2, 1.0)[0]
        prefix = "diffusion_model."
        extracted: dict[str, torch.Tensor] = calc_lora_model(
            difference, 4, prefix, prefix, {}, LORAType.STANDARD, bias_diff=False
        )
        return extracted

    ours, theirs = extract(pair.packed, other.packed), extract(pair.native, other.native)
    assert ours.keys() == theirs.keys()
    key = "diffusion_model.double_blocks.0.img_attn.qkv"
    product = [e[f"{key}.lora_up.weight"].float() @ e[f"{key}.lora_down.weight"].float() for e in (ours, theirs)]
    assert distance(product[0], product[1]) < 1e-2


def test_copy_for_another_gpu(pair: Pair) -> None:
    """ComfyUI makes it from the loader's factory."""
    copy = pair.packed.deepclone_multigpu()
    assert copy.model is not pair.packed.model
    assert list(copy.packed_modules())
    assert distance(sample(copy), pair.expected) < SAME


def test_settings_belong_to_one_model(pair: Pair) -> None:
    bfloat16 = load_diffusion_model(pair.path, LoadOptions(dtype=torch.bfloat16), Residency.PACKED)
    again = load_diffusion_model(pair.path, LoadOptions(dtype=torch.float32), Residency.PACKED)
    assert bfloat16.model.get_dtype() == torch.bfloat16
    assert again.model.get_dtype() == torch.float32
    coarse = sample(bfloat16)
    assert distance(sample(again), pair.expected) < SAME
    assert distance(sample(pair.packed), pair.expected) < SAME
    assert torch.equal(sample(bfloat16), coarse)


def test_views_of_the_file_are_not_written(pair: Pair) -> None:
    content = pair.path.read_bytes()
    sample(with_lora(pair.packed, lora(LORA_LAYERS, 3)))
    assert pair.path.read_bytes() == content
    weight = next(iter(pair.packed.packed_modules()))[1].weight
    assert is_packed(weight)
    assert weight._qdata.dtype == torch.uint8


def refusal(path: Path) -> UserInputError:
    with pytest.raises(UserInputError) as caught:
        load_diffusion_model(path)
    assert path.name in str(caught.value)
    return caught.value


def test_text_encoder_is_refused(tmp_path: Path) -> None:
    tiny_flux.write(tmp_path / "t5.gguf", TYPES["Q8_0"], architecture="t5encoder")
    error = refusal(tmp_path / "t5.gguf")
    assert error.code == "gguf_architecture"
    assert "CLIP loader" in error.remedy


def test_unknown_model_is_refused(tmp_path: Path) -> None:
    tiny_flux.write(tmp_path / "odd.gguf", TYPES["F32"], architecture="odd", weights={"a.weight": torch.ones(32, 32)})
    assert refusal(tmp_path / "odd.gguf").code == "gguf_architecture"


def test_incomplete_model_is_refused(tmp_path: Path) -> None:
    weights = tiny_flux.make_weights()
    weights["double_blocks.0.img_attn.qkv.weight"] = torch.zeros(768, 512)
    tiny_flux.write(tmp_path / "misfit.gguf", TYPES["F32"], weights=weights)
    error = refusal(tmp_path / "misfit.gguf")
    assert error.code == "gguf_architecture"
    assert "img_attn.qkv" in error.problem


def test_truncated_model_is_refused(tmp_path: Path, pair: Pair) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes(pair.path.read_bytes()[:-1000])
    assert "truncated" in refusal(path).problem


def test_original_shape_from_metadata(tmp_path: Path) -> None:
    """Converters flatten what has odd rows and note the shape."""
    path = tmp_path / "flat.gguf"
    weights = tiny_flux.make_weights()
    writer = gguf.GGUFWriter(str(path), "flux")
    for name, value in weights.items():
        flat = name == "img_in.weight"
        if flat:
            writer.add_array(f"comfy.gguf.orig_shape.{name}", [int(size) for size in value.shape])
        data = gguf.quantize(value.reshape(-1, 256).numpy(), GType.Q8_0) if flat else value.numpy()
        writer.add_tensor(name, data, raw_dtype=GType.Q8_0 if flat else GType.F32)
        if flat:
            restored = gguf.dequantize(data, GType.Q8_0).reshape(value.shape).copy()
            weights[name] = torch.from_numpy(restored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert distance(sample(load_diffusion_model(path)), sample(native(weights))) < SAME
