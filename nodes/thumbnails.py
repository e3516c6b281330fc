"""Small pictures for the web page's parts, in ComfyUI's temporary folder."""

from __future__ import annotations

import torch
from comfy_api.latest import ui

LONGEST_SIDE = 192

Picture = dict[str, str]
"""A file as ComfyUI's ``/view`` takes it: ``filename``, ``subfolder`` and ``type``."""


def save_thumbnails(images: torch.Tensor) -> list[Picture]:
    """Write a thumbnail of each image, without the workflow inside.

    Args:
        images: float ``[B,H,W,C]``, C of 3 or more, RGB 0..1; may hold NaN.
    """
    height, width = images.shape[1:3]
    scale = min(1.0, LONGEST_SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    channels = images[..., :3].float().nan_to_num().clamp(0.0, 1.0).movedim(-1, 1)
    small = torch.nn.functional.interpolate(channels, size, mode="bilinear", antialias=True).movedim(1, -1)
    return [dict(saved) for saved in ui.PreviewImage(small).as_dict()["images"]]
