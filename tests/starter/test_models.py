"""The committed files: small, readable, quantised, and they draw portraits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file

from flux_face.starter import export, prepare, vae
from flux_face.starter.conditioning import Conditioner
from flux_face.starter.data import find_faces, to_bytes
from flux_face.starter.flux import Flux, sample_euler
from flux_face.starter.vocabulary import ATTRIBUTES

FLUX = prepare.COMMITTED / prepare.FLUX_FILE
VAE = prepare.COMMITTED / prepare.VAE_FILE


def test_files_are_small_enough_to_commit() -> None:
    assert sum(path.stat().st_size for path in prepare.COMMITTED.iterdir()) <= 16 * 1024 * 1024


def test_gguf_has_quantised_blocks() -> None:
    from gguf import GGMLQuantizationType, GGUFReader

    reader = GGUFReader(FLUX)
    assert reader.fields["general.architecture"].contents() == "flux"
    kinds = {tensor.name: tensor.tensor_type for tensor in reader.tensors}
    blocks = [kind for name, kind in kinds.items() if "_blocks." in name and name.endswith(".weight")]
    assert set(blocks) == {GGMLQuantizationType.Q8_0}
    assert "double_blocks.0.img_attn.norm.query_norm.scale" in kinds


def test_models_draw_faces() -> None:
    model, count = Flux(), 4
    model.load_state_dict(export.read_flux(FLUX))
    _, decoder = vae.from_state_dict(load_file(VAE))
    attributes = torch.zeros(count, len(ATTRIBUTES), dtype=torch.uint8)
    for row, skin in enumerate(("pale", "dark", "tan", "brown")):
        attributes[row, ATTRIBUTES.index(f"skin:{skin}")] = 1
    context, pooled, log_count = Conditioner()(attributes, np.random.default_rng(0))
    noise = torch.randn(count, 16, 32, 32, generator=torch.Generator().manual_seed(11))
    with torch.inference_mode():
        latents = sample_euler(model.eval(), noise, context, pooled, 16, log_count)
        pictures = decoder(latents).permute(0, 2, 3, 1).numpy()
    assert sum(find_faces(to_bytes(picture)) == 1 for picture in pictures) >= count - 1
    middle = pictures[:, 100:160, 108:148].mean(axis=(1, 2, 3))
    assert middle[0] > middle[1] + 0.2, "pale skin is lighter than dark skin"


def test_prepare_fills_a_models_folder_once(tmp_path: Path) -> None:
    files = prepare.prepare(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        f"unet/{prepare.FLUX_FILE}", f"vae/{prepare.VAE_FILE}", f"clip/{prepare.CLIP_FILE}",
    ]  # fmt: skip
    times = [path.stat().st_mtime_ns for path in files]
    files[1].write_bytes(b"broken")
    again = prepare.prepare(tmp_path)
    assert files[1].read_bytes() == VAE.read_bytes()
    assert [path.stat().st_mtime_ns for path in again][::2] == times[::2]
    assert not list(tmp_path.rglob("*.partial"))
