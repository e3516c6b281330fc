"""SCRFD: faces, boxes and five landmarks from one network (Guo, Deng, Lattas and Zafeiriou, 2021)."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from .session import Session, Shape, broken, require
from .types import Face, FloatArray

SIDE = 640
_STRIDES = (8, 16, 32)
_ANCHORS = 2
_OUTPUTS = 9


class Scrfd:
    """Detection as insightface's ``SCRFD.detect`` with one input size of 640 x 640."""

    def __init__(self, session: Session, threshold: float = 0.5, overlap: float = 0.4) -> None:
        """threshold: lowest score. overlap: boxes that share more than this are one face.

        Raises:
            UserInputError: ``onnx_contract``.
        """
        rank = len(session.outputs[0].shape)
        lead: Shape = (None,) * (rank - 1)
        columns = [1] * 3 + [4] * 3 + [10] * 3
        require(session, "detector", [(None, 3, None, None)], [(*lead, width) for width in columns])
        size = session.inputs[0].shape[2:]
        self._side = SIDE if size[0] is None else size[0]
        if size[0] != size[1]:
            raise broken(session, "detector", f"its input is not square: {size}")
        self._session = session
        self._threshold = threshold
        self._overlap = overlap

    def detect(self, image: Tensor) -> list[Face]:
        """The faces of ``[H, W, 3]``, largest first."""
        blob, scale = self.blob(image)
        found = self._session.run({self._session.inputs[0].name: blob})
        outputs = [found[spec.name].cpu().numpy() for spec in self._session.outputs]
        scores, boxes, points = [], [], []
        for level, stride in enumerate(_STRIDES):
            score = outputs[level].reshape(-1)
            keep = np.flatnonzero(score >= self._threshold)
            cells = self._side // stride
            # Anchors lie at the cells' corners, two to each.
            at = np.stack(np.divmod(keep // _ANCHORS, cells)[::-1], axis=-1).astype(np.float32) * stride
            distance = outputs[level + 3].reshape(-1, 4)[keep] * stride
            offset = outputs[level + 6].reshape(-1, 5, 2)[keep] * stride
            scores.append(score[keep])
            boxes.append(np.concatenate([at - distance[:, :2], at + distance[:, 2:]], axis=1))
            points.append(at[:, None] + offset)
        score = np.concatenate(scores)
        box = (np.concatenate(boxes) / scale).astype(np.float32)
        point = (np.concatenate(points) / scale).astype(np.float32)
        faces = [
            Face(
                box=(float(box[i, 0]), float(box[i, 1]), float(box[i, 2]), float(box[i, 3])),
                score=float(score[i]),
                landmarks=point[i],
            )
            for i in _distinct(box, score, self._overlap)
        ]
        return sorted(faces, key=lambda face: -face.width * face.height)

    def blob(self, image: Tensor) -> tuple[Tensor, float]:
        """The picture in the upper left of a square of zeros, normalised, and its scale."""
        height, width = image.shape[0], image.shape[1]
        side = self._side
        if height > width:
            rows, columns = side, int(side * width / height)
        else:
            rows, columns = int(side * height / width), side
        planes = (image[..., :3].permute(2, 0, 1)[None].clamp(0, 1) * 255.0).round()
        small = functional.interpolate(planes, size=(rows, columns), mode="bilinear", align_corners=False)
        square = torch.zeros(1, 3, side, side)
        square[:, :, :rows, :columns] = small.round()
        return (square - 127.5) / 128.0, rows / height


def _distinct(boxes: FloatArray, scores: FloatArray, overlap: float) -> list[int]:
    """Greedy non-maximum suppression; areas count whole pixels, ends included, as in the reference."""
    order = np.argsort(-scores, kind="stable")
    x0, y0, x1, y1 = boxes.T
    area = (x1 - x0 + 1) * (y1 - y0 + 1)
    kept: list[int] = []
    while len(order):
        first = int(order[0])
        kept.append(first)
        rest = order[1:]
        wide = np.minimum(x1[first], x1[rest]) - np.maximum(x0[first], x0[rest]) + 1
        tall = np.minimum(y1[first], y1[rest]) - np.maximum(y0[first], y0[rest]) + 1
        shared = np.clip(wide, 0, None) * np.clip(tall, 0, None)
        order = rest[shared / (area[first] + area[rest] - shared) <= overlap]
    return kept
