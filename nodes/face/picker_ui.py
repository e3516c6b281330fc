"""The face picker's part of a node's UI output: plain values, and pictures in ComfyUI's temporary folder."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from .identity import Identity
from .picker import View, portrait

FACES = "flux_face_faces"
PEOPLE = "flux_face_people"

Reference = dict[str, str]
"""A picture as ``/view`` wants it: ``filename``, ``subfolder`` and ``type``."""


def saved(images: Tensor, cls: type[io.ComfyNode]) -> list[Reference]:
    """Images ``[B, H, W, 3]``, written to the temporary folder."""
    return [dict(item) for item in ui.PreviewImage(images, cls=cls).as_dict()["images"]]


def with_pictures(views: Sequence[View], references: Sequence[Reference] | None) -> list[View]:
    """Each view with its ``image``, or None."""
    return [{**view, "image": None if references is None else references[i]} for i, view in enumerate(views)]


def people_view(identities: Sequence[Identity], cls: type[io.ComfyNode]) -> list[View]:
    """The ``name`` and, where it is known, the ``image`` of each person."""
    portraits = [portrait(item) for item in identities]
    known = [item for item in portraits if item is not None]
    references = iter(saved(torch.stack(known), cls) if known else [])
    return [
        {"name": item.name, "image": None if face is None else next(references)}
        for item, face in zip(identities, portraits, strict=True)
    ]
