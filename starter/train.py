"""Trains the starter models: `python -m starter.train --stage all --workdir DIR`.

Every stage can be interrupted and started again; it goes on from its last checkpoint. `--workdir` takes about
4 GB: rendered portraits, their latents and checkpoints.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from . import checkpoint, export, train_flux, train_vae
from .data import make_shards, read_shards
from .flux import Flux
from .prepare import COMMITTED
from .vae import Decoder, PatchBasis, compile_encoder

STAGES = ("portraits", "latents", "vae", "flux", "export")
BASIS_SHARDS = 6


class Workshop:
    """The files of one training run and the stages that make them."""

    def __init__(self, folder: Path, shards: int, seed: int, workers: int) -> None:
        self.folder, self.shards, self.seed, self.workers = folder, shards, seed, workers
        self.basis_file = folder / "basis.safetensors"
        self.latents_file = folder / "latents.safetensors"
        self.decoder_checkpoint = folder / "vae.ckpt.safetensors"
        self.flux_checkpoint = folder / "flux.ckpt.safetensors"

    def portraits(self) -> list[Path]:
        return make_shards(self.folder / "portraits", self.shards, self.seed, self.workers)

    def basis(self) -> PatchBasis:
        """The patch basis, fitted on the first shards the first time it is asked for."""
        if not self.basis_file.exists():
            basis = PatchBasis.fit(shard.images for shard in read_shards(self.portraits()[:BASIS_SHARDS]))
            tensors = {"mean": basis.mean, "components": basis.components, "scale": basis.scale}
            save_file(tensors, self.basis_file)
        return PatchBasis(**load_file(self.basis_file))

    def latents(self) -> train_flux.Latents:
        """Latents of all portraits at full and half size, computed the first time they are asked for."""
        if not self.latents_file.exists():
            basis = self.basis()
            full, half, attributes = [], [], []
            for shard in read_shards(self.portraits()):
                pictures = shard.images.float() / 255
                small = F.avg_pool2d(pictures.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
                full.append(basis.encode(pictures).half())
                half.append(basis.encode(small).half())
                attributes.append(shard.attributes)
            tensors = {"full": torch.cat(full), "half": torch.cat(half), "attributes": torch.cat(attributes)}
            save_file(tensors, self.latents_file)
        return train_flux.Latents(**load_file(self.latents_file))

    def train_decoder(self, plan: train_vae.DecoderPlan) -> None:
        images = torch.cat([shard.images for shard in read_shards(self.portraits()[:BASIS_SHARDS])])
        for _ in train_vae.train(images, self.basis(), plan, self.decoder_checkpoint):
            pass

    def train_flux(self, plan: train_flux.FluxPlan, compiled: bool) -> None:
        for _ in train_flux.train(self.latents(), plan, self.flux_checkpoint, compiled):
            pass

    def export(self, target: Path) -> None:
        target.mkdir(parents=True, exist_ok=True)
        model, decoder = Flux(), Decoder()
        checkpoint.load(self.flux_checkpoint, {"ema": model}, {})
        checkpoint.load(self.decoder_checkpoint, {"decoder": decoder}, {})
        export.write_flux(model.state_dict(), target / export.FLUX_FILE)
        export.write_vae(compile_encoder(self.basis()), decoder, target / export.VAE_FILE)


def main() -> None:
    flux_plan, decoder_plan = train_flux.FluxPlan(), train_vae.DecoderPlan()
    parser = argparse.ArgumentParser(description="Train the starter models.")
    parser.add_argument("--stage", choices=(*STAGES, "all"), default="all")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=COMMITTED, help="where `export` writes")
    parser.add_argument("--shards", type=int, default=20, help="of 500 portraits each")
    parser.add_argument("--seed", type=int, default=1, help="of the portraits")
    parser.add_argument("--workers", type=int, default=2, help="processes that render")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=flux_plan.steps, help="of the Flux model")
    parser.add_argument("--half-steps", type=int, default=flux_plan.half_steps, help="of these, at half resolution")
    parser.add_argument("--decoder-steps", type=int, default=decoder_plan.steps)
    parser.add_argument("--compile", action="store_true", help="torch.compile: a fifth faster, needs a C++ compiler")
    arguments = parser.parse_args()

    torch.set_num_threads(arguments.threads)
    workshop = Workshop(arguments.workdir, arguments.shards, arguments.seed, arguments.workers)
    stages = STAGES if arguments.stage == "all" else (arguments.stage,)
    if "portraits" in stages:
        workshop.portraits()
    if "latents" in stages:
        workshop.latents()
    if "vae" in stages:
        workshop.train_decoder(train_vae.DecoderPlan(steps=arguments.decoder_steps))
    if "flux" in stages:
        plan = train_flux.FluxPlan(steps=arguments.steps, half_steps=arguments.half_steps)
        workshop.train_flux(plan, arguments.compile)
    if "export" in stages:
        workshop.export(arguments.models)


if __name__ == "__main__":
    main()
