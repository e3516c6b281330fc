"""Puts the starter models where ComfyUI looks for them: `python -m starter.prepare --models-dir DIR`.

The Flux GGUF and the VAE are copied from the pack, the CLIP-L text encoder is generated (a few seconds, 246 MB).
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

COMMITTED = Path(__file__).parent / "models"
FLUX_FILE = "flux-face-starter-Q8_0.gguf"
VAE_FILE = "flux-face-starter-vae.safetensors"
CLIP_FILE = "flux-face-starter-clip_l.safetensors"
# A generated encoder of any other size is an interrupted or an older one.
CLIP_BYTES = 247_323_896


def prepare(models_dir: Path) -> list[Path]:
    """Make all three files present in `models_dir`; those that are already right stay untouched.

    Returns the files, in the order Flux GGUF, VAE, CLIP-L.
    """
    flux = _copy(COMMITTED / FLUX_FILE, models_dir / "unet" / FLUX_FILE)
    vae = _copy(COMMITTED / VAE_FILE, models_dir / "vae" / VAE_FILE)
    clip = models_dir / "clip" / CLIP_FILE
    if not (clip.exists() and clip.stat().st_size == CLIP_BYTES):
        from . import clip_l

        clip_l.write(clip)
    return [flux, vae, clip]


def _copy(source: Path, target: Path) -> Path:
    """Copy atomically unless `target` already holds the same bytes."""
    if target.exists() and target.read_bytes() == source.read_bytes():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    shutil.copyfile(source, partial)
    partial.replace(target)
    return target


def main() -> None:
    parser = argparse.ArgumentParser(description="Put the starter models into a ComfyUI models folder.")
    parser.add_argument("--models-dir", type=Path, required=True, help="ComfyUI's models folder")
    arguments = parser.parse_args()
    for path in prepare(arguments.models_dir):
        sys.stdout.write(f"{path} ({path.stat().st_size / 1e6:.1f} MB)\n")


if __name__ == "__main__":
    main()
