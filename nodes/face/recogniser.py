"""ArcFace: what tells one person from another (Deng, Guo, Xue and Zafeiriou, 2019)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from .align import ARCFACE_112_V2, crop_faces, similarity_matrix
from .contracts import RECOGNISERS, RecogniserContract
from .runtime.session import Session, require, run_batched
from .types import Face, FloatArray

EMBEDDING = 512


def space_of(recogniser: str) -> str:
    """The space of a recogniser's embeddings, by its file name: the same network goes by several names."""
    return next((row.space for row in RECOGNISERS if recogniser in row.names), recogniser)


class Recogniser:
    """Embeddings as insightface's ``ArcFaceONNX.get_feat``, for the faces of several images at once."""

    def __init__(self, session: Session, contract: RecogniserContract = RECOGNISERS[0]) -> None:
        """Checks the graph.

        Raises:
            UserInputError: ``onnx_contract``.
        """
        side = contract.size
        require(session, "recogniser", [(None, 3, side, side)], [(None, EMBEDDING)])
        self.session = session
        self.name = session.path.name
        self.space = contract.space
        self._contract = contract

    def embeddings(self, images: Tensor, index: Sequence[int], faces: Sequence[Face]) -> FloatArray:
        """The network's output ``[n, 512]``, before normalisation: face i is in image ``index[i]`` of
        ``[B, H, W, 3]``.
        """
        if not faces:
            return np.zeros((0, EMBEDDING), np.float32)
        side = self._contract.size
        matrices = [similarity_matrix(face.landmarks, ARCFACE_112_V2 * side) for face in faces]
        # Black outside the image and no prefilter, as in its training.
        crops = crop_faces(images, index, matrices, (side, side), border="zeros", antialias=False)
        # Rounded to 8 bits, as the network was trained and is run everywhere else.
        levels = (crops * 255.0).round().permute(0, 3, 1, 2) / 255.0
        feeds = {self.session.inputs[0].name: self._contract.normalisation.apply(levels)}
        vectors: FloatArray = run_batched(self.session, feeds)[0].cpu().numpy()
        return vectors
