"""The networks that draw one person's face in the pose of another: sources, batches and decoding of every family."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ...catalogue.hints import where_to_get
from ..errors import UserInputError
from .align import Matrix, crop_face, similarity_matrix
from .contracts import CONVERTERS, Converted, Photo, Projected, SwapperContract, Unit
from .identity import Identity
from .pixel_boost import join_tiles, split_tiles
from .recogniser import EMBEDDING, space_of
from .runtime.onnx_model import OnnxFileError, matrix_of_shape
from .runtime.session import Session, Shape, broken, fits, require, run_batched
from .types import Face, FloatArray

# Tiles that go through the network at once.
BATCH = 16
# HyperSwap's exporter gives the mask it has blended its drawing with as a second output of this name.
_MASK = "mask"


@dataclass(frozen=True, eq=False)
class Drawing:
    """What a swapper drew.

    Attributes:
        pixels: float32 ``[n, side, side, 3]``, RGB 0..1.
        mask: float32 ``[n, side, side]``, 0..1, where the network itself sees the face; None where it does not say.
    """

    pixels: Tensor
    mask: Tensor | None


class Swapper:
    """One swapper and, where its identities need one, the converter."""

    def __init__(self, session: Session, contract: SwapperContract, converter: Session | None = None) -> None:
        """Checks the graphs against the contract.

        Raises:
            UserInputError: ``onnx_contract``, or ``model_missing`` where the contract names a converter and there is
                none.
        """
        self.contract = contract
        self.session = session
        self.converter = converter
        side = contract.size
        form = contract.source
        shapes: dict[str, Shape] = {
            "target": (None, 3, side, side),
            "source": (None, 3, form.size, form.size) if isinstance(form, Photo) else (None, EMBEDDING),
        }
        self._inputs = _roles(session, shapes)
        by_name = {name: shapes[role] for role, name in self._inputs.items()}
        outputs: list[Shape] = [(None, 3, side, side), *(spec.shape for spec in session.outputs[1:])]
        require(session, "swapper", [by_name[spec.name] for spec in session.inputs], outputs)
        names = [spec.name for spec in session.outputs]
        self._mask = names.index(_MASK) if _MASK in names[1:] else None
        if self._mask is not None and not fits(session.outputs[self._mask].shape, (None, 1, side, side)):
            raise broken(session, "swapper", f"its mask has shape {session.outputs[self._mask].shape}")
        # In a batch of frames, and from one to the next, the same person comes again and again.
        self._sources: WeakKeyDictionary[Identity, Tensor] = WeakKeyDictionary()
        self._projection: Tensor | None = None
        if isinstance(form, Projected):
            try:
                self._projection = torch.from_numpy(matrix_of_shape(session.path, EMBEDDING, EMBEDDING))
            except OnnxFileError as error:
                raise broken(session, "swapper", str(error)) from error
        if isinstance(form, Converted):
            if converter is None:
                raise _no_converter(contract, form)
            require(converter, "converter", [(None, EMBEDDING)], [(None, EMBEDDING)])

    @property
    def sessions(self) -> tuple[Session, ...]:
        """The swapper's session and, where there is one, the converter's."""
        return (self.session,) if self.converter is None else (self.session, self.converter)

    def sources(self, identities: Sequence[Identity]) -> Tensor:
        """The identities as the network wants them: ``[n, 512]``, or crops ``[n, 3, s, s]`` of their photos.

        Raises:
            UserInputError: ``identity_incomplete`` where one lacks what the network draws from.
        """
        new = [identity for identity in dict.fromkeys(identities) if identity not in self._sources]
        if new:
            self._sources.update(zip(new, self._made(new), strict=True))
        return torch.stack([self._sources[identity] for identity in identities])

    def matrix(self, face: Face, factor: int = 1) -> Matrix:
        """From image to crop coordinates, for crops of `factor` tiles a side."""
        return similarity_matrix(face.landmarks, self.contract.template * (self.contract.size * factor))

    def draw(self, crops: Tensor, sources: Tensor) -> Drawing:
        """Draws each source in its crop ``[n, k * size, k * size, 3]``, RGB 0..1, k tiles a side.

        All tiles of all crops go through the network in the same batches, of at most 16.
        """
        factor = crops.shape[1] // self.contract.size
        tiles = split_tiles(crops.to(self.session.device), factor).permute(0, 3, 1, 2)
        feeds = {
            self._inputs["target"]: self.contract.normalisation.apply(tiles).contiguous(),
            self._inputs["source"]: sources[:, None].expand(-1, factor * factor, *sources.shape[1:]).flatten(0, 1),
        }
        outputs = run_batched(self.session, feeds, BATCH)
        pixels = self.contract.normalisation.undo(outputs[0]) if self.contract.denormalise else outputs[0]
        mask = None if self._mask is None else _joined(outputs[self._mask], factor)[..., 0]
        return Drawing(_joined(pixels, factor), mask)

    def _made(self, identities: Sequence[Identity]) -> Tensor:
        form = self.contract.source
        if isinstance(form, Photo):
            return torch.stack([self._photo(identity, form) for identity in identities])
        return self._vectors(torch.from_numpy(np.stack([self._embedding(identity) for identity in identities])))

    def _vectors(self, raw: Tensor) -> Tensor:
        """Recogniser outputs ``[n, 512]`` in the form that the contract names."""
        form = self.contract.source
        if isinstance(form, Unit):
            return functional.normalize(raw, dim=1)
        if self._projection is not None:
            return functional.normalize(functional.normalize(raw, dim=1) @ self._projection, dim=1)
        assert isinstance(form, Converted), "photos are no vectors"
        assert self.converter is not None, "checked when it was made"
        converted = run_batched(self.converter, {self.converter.inputs[0].name: raw})[0]
        return functional.normalize(converted, dim=1) if form.unit else converted

    def _embedding(self, identity: Identity) -> FloatArray:
        if identity.embedding is None or space_of(identity.recogniser) != self.contract.space:
            has = f"one of {identity.recogniser}" if identity.embedding is not None else "none at all"
            raise UserInputError(
                "identity_incomplete",
                "identity",
                f"{self.session.path.name} draws from an embedding of {self.contract.space}, and it holds {has}",
                f"Make the identity with an engine whose recogniser is {self.contract.space}.onnx",
            )
        return identity.embedding

    def _photo(self, identity: Identity, form: Photo) -> Tensor:
        if identity.photo is None or identity.face is None:
            raise UserInputError(
                "identity_incomplete",
                "identity",
                f"{self.session.path.name} draws from a photo, and it holds an embedding only",
                "Make the identity from photos, or choose a swapper that draws from embeddings",
            )
        matrix = similarity_matrix(identity.face.landmarks, form.template * form.size)
        photo = identity.photo[..., :3].to(self.session.device)
        return crop_face(photo, matrix, (form.size, form.size), antialias=False).permute(2, 0, 1)


def _roles(session: Session, shapes: dict[str, Shape]) -> dict[str, str]:
    """The names of the target and source inputs: those very names, or else the only inputs of their shapes."""
    if {spec.name for spec in session.inputs} == set(shapes):
        return {role: role for role in shapes}
    found = {role: [spec.name for spec in session.inputs if fits(spec.shape, want)] for role, want in shapes.items()}
    if any(len(names) != 1 for names in found.values()) or found["target"] == found["source"]:
        shown = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in session.inputs)
        raise broken(session, "swapper", f"its target and source inputs cannot be told: it takes {shown}")
    return {role: names[0] for role, names in found.items()}


def _no_converter(contract: SwapperContract, form: Converted) -> UserInputError:
    row = next(row for row in CONVERTERS if row.name == form.converter)
    return UserInputError(
        "model_missing",
        "swapper",
        f"{contract.name} needs the embedding converter {row.name}, which is not there",
        f"Get it from {where_to_get(row.name)} and put it beside {contract.name}",
    )


def _joined(tiles: Tensor, factor: int) -> Tensor:
    """Network outputs ``[n * k * k, C, size, size]`` as clamped crops ``[n, k * size, k * size, C]``; changes them."""
    crops = join_tiles(tiles.permute(0, 2, 3, 1), factor)
    # Plane by plane: the values of one small face are then few enough for torch to leave its other threads asleep.
    for plane in crops.unbind(-1):
        plane.clamp_(0, 1)
    return crops
