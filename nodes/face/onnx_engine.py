"""The engine of released networks: SCRFD finds, ArcFace recognises, a swapper draws; all through onnxruntime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..errors import UserInputError
from ..skin.colour import lab_to_srgb, srgb_to_lab
from .align import ARCFACE_112_V2, Matrix, Patch, crop_face, similarity_matrix
from .blend import box_mask
from .colour import match_colour
from .contracts import SwapperContract
from .engines import Placement, SwapSettings, no_progress
from .identity import Identity
from .onnx_file import OnnxFileError, matrix_of_shape
from .scrfd import Scrfd
from .session import Session, Shape, broken, require, run_batched
from .types import Face, FaceSet, FloatArray

_ARCFACE_SIDE = 112
_EMBEDDING = 512
# Share of the crop over which its border fades out; facefusion blurs its box by the same amount.
_SOFTNESS = 0.15


class OnnxEngine:
    """Detector, recogniser and swapper behind the engine interface."""

    name = "onnx"

    def __init__(self, detector: Session, recogniser: Session, swapper: Session, contract: SwapperContract) -> None:
        """Checks every graph against its contract.

        Raises:
            UserInputError: ``onnx_contract``.
        """
        require(recogniser, "recogniser", [(None, 3, _ARCFACE_SIDE, _ARCFACE_SIDE)], [(None, _EMBEDDING)])
        side = contract.size
        outputs: list[Shape] = [(None, 3, side, side)]
        # HyperSwap's exporter adds a mask, which is not used here.
        outputs += [(None, 1, side, side)] * (len(swapper.outputs) - 1)
        self._target, self._source = _swapper_inputs(swapper)
        order = [spec.name for spec in swapper.inputs]
        shapes: dict[str, Shape] = {
            self._target: (None, 3, side, side),
            self._source: (None, _EMBEDDING),
        }
        require(swapper, "swapper", [shapes[name] for name in order], outputs)
        self._projection: FloatArray | None = None
        if contract.source == "projected":
            try:
                self._projection = matrix_of_shape(swapper.path, _EMBEDDING, _EMBEDDING)
            except OnnxFileError as error:
                raise broken(swapper, "swapper", str(error)) from error
        self._detector = Scrfd(detector)
        self._recogniser = recogniser
        self._swapper = swapper
        self._contract = contract
        providers = {session.provider for session in (detector, recogniser, swapper)}
        self.provider = ", ".join(sorted(providers))
        self.device = swapper.device
        self.notes = tuple(dict.fromkeys(s.note for s in (detector, recogniser, swapper) if s.note))

    def detect(self, images: Tensor, on_progress: Callable[[], None] = no_progress) -> FaceSet:
        """The faces of ``[B, H, W, 3]`` with their embeddings."""
        found = []
        for image in images.float().cpu():
            on_progress()
            faces = self._detector.detect(image)
            found.append(self._recognised(image, faces))
        return FaceSet(tuple(found), images.shape[1], images.shape[2], f"{self.name} ({self.provider})")

    def embeddings(self, image: Tensor, faces: Sequence[Face]) -> FloatArray:
        """The recogniser's raw output ``[n, 512]`` for faces of ``[H, W, 3]``."""
        crops = [self._crop(image, face, _ARCFACE_SIDE, ARCFACE_112_V2)[0] for face in faces]
        # Rounded to 8 bits, as the networks were trained and are run everywhere else.
        blob = (torch.stack(crops) * 255.0).round().permute(0, 3, 1, 2)
        feeds = {self._recogniser.inputs[0].name: (blob - 127.5) / 127.5}
        vectors: FloatArray = run_batched(self._recogniser, feeds)[0].cpu().numpy()
        return vectors

    def identity(self, photo: Tensor, face: Face) -> Identity:
        """The person in a photo ``[H, W, 3]``."""
        photo = photo[..., :3].float().cpu()
        raw = self.embeddings(photo, [face])[0] if face.embedding is None else face.embedding
        return Identity(raw, self._recogniser.path.name, photo, replace(face, embedding=raw))

    def compare(self, images: Tensor, placements: Sequence[Placement]) -> tuple[float, ...]:
        """Cosines of the embeddings, -1..1."""
        result = []
        for item in placements:
            now = _unit(self.embeddings(images[item.image].float().cpu(), [item.face])[0])
            result.append(float(now @ _unit(self._embedding(item.identity))))
        return tuple(result)

    def source_vector(self, identity: Identity) -> FloatArray:
        """The identity as the swapper wants it: its normalised embedding, projected where the model does so."""
        vector = _unit(self._embedding(identity))
        return vector if self._projection is None else _unit(vector @ self._projection)

    def _embedding(self, identity: Identity) -> FloatArray:
        if identity.embedding is None or identity.recogniser != self._recogniser.path.name:
            raise UserInputError(
                "identity_incomplete",
                "identity",
                f"it holds no embedding of {self._recogniser.path.name}",
                "Make the identity with the engine that uses it",
            )
        return identity.embedding

    def swap_crops(self, crops: Tensor, vectors: FloatArray) -> Tensor:
        """Network outputs ``[n, size, size, 3]``, 0..1, for aligned crops of the same shape and ``[n, 512]``."""
        contract = self._contract
        blob = ((crops.permute(0, 3, 1, 2) - contract.mean) / contract.std).contiguous()
        output = run_batched(self._swapper, {self._target: blob, self._source: torch.from_numpy(vectors)})[0].cpu()
        if contract.denormalise:
            output = output * contract.std + contract.mean
        return output.clamp(0, 1).permute(0, 2, 3, 1)

    def aligned(self, image: Tensor, face: Face) -> tuple[Tensor, Matrix]:
        """The crop ``[size, size, 3]`` that the swapper sees, and its matrix."""
        return self._crop(image, face, self._contract.size, self._contract.template)

    def patches(
        self,
        images: Tensor,
        placements: Sequence[Placement],
        settings: SwapSettings,
        on_progress: Callable[[], None] = no_progress,
    ) -> list[Patch]:
        """The swapper's drawing of each face, toned like the face it replaces, in a soft square."""
        result = []
        for item in placements:
            on_progress()
            crop, matrix = self.aligned(images[item.image].float().cpu(), item.face)
            drawn = self.swap_crops(crop[None], self.source_vector(item.identity)[None])[0]
            result.append(finished_patch(drawn, crop, matrix, settings.colour_match, settings.blend))
        return result

    def _recognised(self, image: Tensor, faces: Sequence[Face]) -> tuple[Face, ...]:
        if not faces:
            return ()
        vectors = self.embeddings(image, faces)
        return tuple(replace(face, embedding=vector) for face, vector in zip(faces, vectors, strict=True))

    def _crop(self, image: Tensor, face: Face, side: int, template: Matrix) -> tuple[Tensor, Matrix]:
        matrix = similarity_matrix(face.landmarks, template * side)
        # Black outside the image and no prefilter: what the networks were trained on.
        return crop_face(image[..., :3], matrix, (side, side), border="zeros", antialias=False), matrix


def _swapper_inputs(session: Session) -> tuple[str, str]:
    """Names of the picture and of the identity input, whichever comes first."""
    pictures = [spec.name for spec in session.inputs if len(spec.shape) == 4]
    vectors = [spec.name for spec in session.inputs if len(spec.shape) == 2]
    if len(pictures) != 1 or len(vectors) != 1:
        shown = ", ".join(f"{spec.name} {spec.shape}" for spec in session.inputs)
        raise broken(session, "swapper", f"it should take one picture and one vector but takes {shown}")
    return pictures[0], vectors[0]


def finished_patch(drawn: Tensor, crop: Tensor, matrix: Matrix, colour_match: float, blend: float) -> Patch:
    """The network's drawing ``[size, size, 3]`` toned like the `crop` it replaces, in a soft square."""
    mask = box_mask(len(crop), _SOFTNESS, crop)
    if colour_match:
        lab = srgb_to_lab(drawn)
        weight = mask + 1e-4
        drawn = lab_to_srgb(lab + colour_match * (match_colour(lab, srgb_to_lab(crop), weight, weight) - lab))
    return Patch(drawn, blend * mask, matrix)


def _unit(vector: FloatArray) -> FloatArray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)
