"""The computed encoder is the patch basis; ComfyUI's VAE with the committed file restores unseen portraits."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flux_face.starter import prepare, vae
from flux_face.starter.renderer import render
from flux_face.starter.vocabulary import sample

# Training seeds are (1, shard).
UNSEEN = 987654


def portraits(count: int) -> Tensor:
    """RGB 0..1, [count,256,256,3]."""
    rng = np.random.default_rng(UNSEEN)
    return torch.from_numpy(np.stack([render(sample(rng)[0]) for _ in range(count)]))


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * torch.log10((a - b).square().mean()))


def test_encoder_computes_the_basis() -> None:
    pictures = portraits(4)
    basis = vae.PatchBasis.fit([(pictures * 255).byte()])
    encoder = vae.compile_encoder(basis)
    latents = encoder(pictures.permute(0, 3, 1, 2))
    assert torch.allclose(latents, basis.encode(pictures), atol=1e-4)


def test_basis_fit_is_reproducible() -> None:
    images = (portraits(3) * 255).byte()
    first, second = vae.PatchBasis.fit([images]), vae.PatchBasis.fit([images])
    assert torch.equal(first.components, second.components)
    assert psnr(first.decode(first.encode(images / 255)), images / 255) > 28


def test_round_trip_through_comfyui() -> None:
    import comfy.latent_formats
    import comfy.sd
    import comfy.utils

    path = prepare.COMMITTED / prepare.VAE_FILE
    sd, metadata = comfy.utils.load_torch_file(str(path), return_metadata=True)
    comfy_vae = comfy.sd.VAE(sd=sd, metadata=metadata)
    pictures = portraits(4)
    latents = comfy_vae.encode(pictures)
    assert latents.shape == (4, 16, 32, 32)
    restored = comfy_vae.decode(latents)
    assert psnr(restored.float(), pictures) > 30

    # What the diffusion model sees is what it was trained on.
    seen = comfy.latent_formats.Flux().process_in(latents.float())
    encoder, _ = vae.from_state_dict(dict(sd))
    assert torch.allclose(seen, encoder(pictures.permute(0, 3, 1, 2)), atol=0.05)
