"""OpenCV's bilinear resize of 8-bit pictures, to the bit, on any device.

Detectors answer to single grey levels: boxes equal those of other programs only if the reduced picture does. Source of
the arithmetic: opencv/opencv, modules/imgproc/src/resize.cpp (HResizeLinear, VResizeLinear, ResizeAreaFast).
"""

from __future__ import annotations

import torch
from torch import Tensor

# OpenCV rounds the weights of the two neighbours to 1/2048.
_UNIT = 2048.0


def resize_8bit(image: Tensor, height: int, width: int) -> Tensor:
    """``cv2.resize`` (INTER_LINEAR, 8 bits) of a picture ``[H, W, C]``, 0..1.

    Reads only the pixels that the result needs, so that memory depends on the result's size alone.

    Returns:
        float32 ``[height, width, C]``, whole numbers 0..255, on the picture's device.
    """
    device = image.device
    if image.shape[0] == 2 * height and image.shape[1] == 2 * width:
        # OpenCV takes the mean of four where both sides are halved.
        y, x = 2 * torch.arange(height, device=device), 2 * torch.arange(width, device=device)
        four = _levels(image, y, x) + _levels(image, y, x + 1)
        four += _levels(image, y + 1, x) + _levels(image, y + 1, x + 1)
        return ((four + 2) >> 2).float()
    image, top, bottom, upper, lower = _reduced(image, 0, height)
    image, left, right, before, after = _reduced(image, 1, width)
    channels = image.shape[2]
    levels = image.clamp(0, 1).mul_(255.0).round_().reshape(len(image), -1)
    # Picked value by value, which is faster than in threes. Whole numbers this small are exact as floats.
    every = torch.arange(channels, device=device)
    left, right = ((channels * columns[:, None] + every).flatten() for columns in (left, right))
    before, after = (weights.float().repeat_interleave(channels) for weights in (before, after))
    across = levels.index_select(1, left).mul_(before).addcmul_(levels.index_select(1, right), after)
    # 16-bit multiplications: four low bits are dropped before, sixteen after.
    across = across.to(torch.int32).bitwise_right_shift_(4)
    total = across.index_select(0, top).mul_(upper[:, None]).bitwise_right_shift_(16)
    total += across.index_select(0, bottom).mul_(lower[:, None]).bitwise_right_shift_(16)
    return ((total + 2) >> 2).clamp(0, 255).float().view(height, width, channels)


def _levels(image: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels at every row and column given, as int32 levels of 255."""
    return (image[rows[:, None], columns].clamp(0, 1) * 255.0).round().to(torch.int32)


def _reduced(image: Tensor, axis: int, want: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """At most twice `want` of a picture's rows (`axis` 0) or columns (1), and what ``_neighbours`` says, among them."""
    have = image.shape[axis]
    first, second, before, after = _neighbours(have, want, image.device)
    if have > 2 * want:
        image = image.index_select(axis, torch.cat([first, second]))
        first = torch.arange(want, device=image.device)
        second = first + want
    return image, first, second, before, after


def _neighbours(have: int, want: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Indices of the two pixels that each new one lies between, and their weights in 1/2048.

    Beyond the outermost pixels' centres both are that pixel.
    """
    # On the CPU: some GPUs have no float64.
    at = ((torch.arange(want, dtype=torch.float64) + 0.5) * (1.0 / (want / have)) - 0.5).float()
    first = at.floor()
    share = at - first
    weights = [(part * _UNIT).round().to(torch.int32).to(device) for part in (1.0 - share, share)]
    indices = [index.long().clamp(0, have - 1).to(device) for index in (first, first + 1)]
    return indices[0], indices[1], weights[0], weights[1]
