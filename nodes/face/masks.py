"""Masks in crop space: which part of an aligned face is replaced."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MaskSettings:
    """Which masks limit the replaced part of a crop; several are combined by their minimum.

    softness: share of the crop's side over which an edge fades out.
    """

    softness: float = 0.15
