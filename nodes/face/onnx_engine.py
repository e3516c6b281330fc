"""The engine of released networks: one finds faces, one recognises them, one draws, others read sex, age or contour."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Protocol

from torch import Tensor

from ..errors import UserInputError
from .align import Patch, crop_faces
from .attributes import FaceAttributes
from .engines import Placement, SwapSettings, no_progress
from .finish import finished_patches
from .identity import Identity, cosine
from .pixel_boost import check_factor
from .recogniser import space_of
from .swapper import BATCH, Swapper
from .types import Face, FaceSet, FloatArray

# Images that lie on the device at once where they come from elsewhere.
_IMAGES = 16
# Pixels of drawings that are worked on at once: 16 crops of 512 x 512.
_PIXELS = 16 * 512**2


class Detector(Protocol):
    """Finds faces: ``scrfd.Scrfd``."""

    def detect_all(self, images: Tensor, on_progress: Callable[[], None] = no_progress) -> list[list[Face]]:
        """The faces of every picture of ``[B, H, W, 3]``, largest first."""
        ...


class Embedder(Protocol):
    """Tells faces from one another: ``recogniser.Recogniser``.

    name: of the network's file. space: what tells whose embeddings can be compared; the same network goes by several
    names.
    """

    name: str
    space: str

    def embeddings(self, images: Tensor, index: Sequence[int], faces: Sequence[Face]) -> FloatArray:
        """Raw embeddings ``[n, 512]``: face i is in image ``index[i]`` of ``[B, H, W, 3]``."""
        ...


class OnnxEngine:
    """Detector, recogniser, swapper and attribute networks behind the engine interface."""

    name = "onnx"

    def __init__(
        self,
        detector: Detector,
        recogniser: Embedder,
        swapper: Swapper,
        attributes: Sequence[FaceAttributes] = (),
        provider: str = "",
    ) -> None:
        """provider: where the networks run, for reports; the swapper's where none is given."""
        self.provider = provider or swapper.session.provider
        self.device = swapper.session.device
        self._detector = detector
        self._recogniser = recogniser
        self._swapper = swapper
        self._attributes = tuple(attributes)

    def detect(self, images: Tensor, on_progress: Callable[[], None] = no_progress) -> FaceSet:
        """The faces of ``[B, H, W, 3]`` with their embeddings and what the attribute networks read in them."""
        found: list[tuple[Face, ...]] = []
        for start in range(0, len(images), _IMAGES):
            part = images[start : start + _IMAGES, ..., :3].to(self.device).float()
            by_image = self._detector.detect_all(part, on_progress)
            index = [place for place, faces in enumerate(by_image) for _ in faces]
            faces = iter(self._read(part, index, [face for some in by_image for face in some]))
            found += [tuple(islice(faces, len(some))) for some in by_image]
        engine = f"{self.name} ({self.provider})"
        return FaceSet(tuple(found), images.shape[1], images.shape[2], engine, self._recogniser.name)

    def identity(self, photo: Tensor, face: Face) -> Identity:
        """The person in a photo ``[H, W, 3]``."""
        photo = photo[..., :3].float()
        if face.embedding is None:
            vector = self._recogniser.embeddings(photo[None].to(self.device), [0], [face])[0]
            face = replace(face, embedding=vector)
        return Identity(face.embedding, self._recogniser.name, photo.cpu(), face)

    def compare(self, images: Tensor, placements: Sequence[Placement]) -> tuple[float, ...]:
        """Cosines of the embeddings, -1..1."""
        known = [self._embedding(item.identity) for item in placements]
        result: list[float] = []
        for start in range(0, len(placements), BATCH):
            part = placements[start : start + BATCH]
            here, index = self._here(images, part)
            now = self._recogniser.embeddings(here, index, [item.face for item in part])
            result += [cosine(*pair) for pair in zip(now, known[start : start + BATCH], strict=True)]
        return tuple(result)

    def patches(
        self,
        images: Tensor,
        placements: Sequence[Placement],
        settings: SwapSettings,
        on_progress: Callable[[], None] = no_progress,
    ) -> list[Patch]:
        """The swapper's drawing of each face, finished as `settings` say.

        Faces go through in groups, each one crop, one network batch and one finish.

        Raises:
            UserInputError: ``identity_incomplete`` or ``pixel_boost_range``.
        """
        contract = self._swapper.contract
        factor = settings.pixel_boost
        check_factor(factor, contract.size)
        side = contract.size * factor
        largest = side if settings.restorer is None else max(side, settings.restorer.side)
        step = max(1, min(BATCH // factor**2, _PIXELS // largest**2))
        result: list[Patch] = []
        for start in range(0, len(placements), step):
            part = placements[start : start + step]
            for _ in part:
                on_progress()
            faces = [item.face for item in part]
            matrices = [self._swapper.matrix(face, factor) for face in faces]
            here, index = self._here(images, part)
            # No prefilter: the networks' own programs take none.
            crops = crop_faces(here, index, matrices, (side, side), contract.border, antialias=False)
            drawing = self._swapper.draw(crops, self._swapper.sources([item.identity for item in part]))
            result += finished_patches(drawing, crops, matrices, faces, contract.template, settings)
        return result

    def _read(self, images: Tensor, index: Sequence[int], faces: list[Face]) -> list[Face]:
        """The faces with their embeddings and attributes."""
        vectors = self._recogniser.embeddings(images, index, faces)
        faces = [replace(face, embedding=vector) for face, vector in zip(faces, vectors, strict=True)]
        for network in self._attributes:
            faces = network.read(images, index, faces)
        return faces

    def _here(self, images: Tensor, placements: Sequence[Placement]) -> tuple[Tensor, list[int]]:
        """The images that placements lie in, RGB on the device, and each placement's place among them."""
        # Where they lie here already, indexing would copy them.
        if images.device == self.device:
            return images[..., :3].float(), [item.image for item in placements]
        used = sorted({item.image for item in placements})
        place = {image: number for number, image in enumerate(used)}
        return images[used, ..., :3].to(self.device).float(), [place[item.image] for item in placements]

    def _embedding(self, identity: Identity) -> FloatArray:
        if identity.embedding is None or space_of(identity.recogniser) != self._recogniser.space:
            raise UserInputError(
                "identity_incomplete",
                "identity",
                f"it holds no embedding of {self._recogniser.name}",
                "Make the identity with the engine that uses it",
            )
        return identity.embedding
