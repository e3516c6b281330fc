"""Sex, age and the 106-point contour: insightface's small networks that look at a face upright."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from torch import Tensor

from .align import Matrix, crop_faces, invert, transform_points
from .contracts import AttributeContract
from .runtime.session import Session, require, run_batched
from .types import Face, FloatArray

_POINTS = 106
_OUTPUTS = {"sex_age": 3, "contour": 2 * _POINTS}


class FaceAttributes:
    """One attribute network, as insightface's ``Attribute`` (sex and age) or ``Landmark`` (contour) runs it."""

    def __init__(self, session: Session, contract: AttributeContract) -> None:
        """Raises:
        UserInputError: ``onnx_contract``.
        """
        side = contract.size
        require(session, "face attribute", [(None, 3, side, side)], [(None, _OUTPUTS[contract.reads])])
        self._session = session
        self._contract = contract

    def read(self, images: Tensor, index: Sequence[int], faces: Sequence[Face]) -> list[Face]:
        """The faces with what the network reads in them, all as one batch.

        Args:
            images: ``[B, H, W, 3]``, RGB 0..1.
            index: for each face, which of the images it is in.
        """
        if not faces:
            return []
        side = self._contract.size
        matrices = [_upright(face, side, self._contract.margin) for face in faces]
        crops = crop_faces(images[..., :3], index, matrices, (side, side), border="zeros", antialias=False)
        # Rounded to 8 bits, as the networks were trained and are run everywhere else.
        levels = (crops.clamp(0, 1) * 255.0).round() / 255.0
        blob = self._contract.normalisation.apply(levels.permute(0, 3, 1, 2).contiguous())
        answers = run_batched(self._session, {self._session.inputs[0].name: blob})[0].cpu().numpy()
        if self._contract.reads == "sex_age":
            return [_with_sex_and_age(face, answer) for face, answer in zip(faces, answers, strict=True)]
        return [
            replace(face, contour=transform_points((answer.reshape(_POINTS, 2) + 1.0) * (side // 2), invert(matrix)))
            for face, answer, matrix in zip(faces, answers, matrices, strict=True)
        ]


def _with_sex_and_age(face: Face, answer: FloatArray) -> Face:
    """female, male and age / 100."""
    return replace(face, sex="female" if answer[0] >= answer[1] else "male", age=100.0 * float(answer[2]))


def _upright(face: Face, side: int, margin: float) -> Matrix:
    """Frame to crop: the box's centre in the middle, its longer side 1 / margin of the crop's."""
    x0, y0, x1, y1 = face.box
    # A detector may give a box without extent.
    scale = side / (margin * max(x1 - x0, y1 - y0, 1.0))
    return np.array(
        [[scale, 0.0, side / 2 - scale * (x0 + x1) / 2], [0.0, scale, side / 2 - scale * (y0 + y1) / 2]],
        dtype=np.float64,
    )
