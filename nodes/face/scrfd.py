"""SCRFD: faces, boxes and five landmarks from one network (Guo, Deng, Lattas and Zafeiriou, 2021)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from .engines import no_progress
from .resize import resize_8bit
from .runtime.session import Session, Shape, batch_limit, broken, require
from .types import Face, FloatArray

SIDE = 640
# Faces that fill the picture are larger than any anchor at 640; ReActor looks again at this side too.
CLOSE_SIDE = 320
# Pictures that go through the network at once.
_BATCH = 16
_STRIDES = (8, 16, 32)
_ANCHORS = 2
_WIDTHS = (1, 4, 10)


class Scrfd:
    """Detection as insightface's ``SCRFD.detect`` with an input size of 640 x 640.

    Pictures in which nothing is found at 640 are searched once more at 320, where close-ups fit the anchors. A graph
    with a fixed input size is run at that size alone.
    """

    def __init__(self, session: Session, threshold: float = 0.5, overlap: float = 0.4) -> None:
        """threshold: lowest score. overlap: boxes that share more than this are one face.

        Raises:
            UserInputError: ``onnx_contract``.
        """
        rank = len(session.outputs[0].shape)
        lead: Shape = (None,) * (rank - 1)
        require(
            session,
            "detector",
            [(None, 3, None, None)],
            [(*lead, width) for width in _WIDTHS for _ in _STRIDES],
        )
        if rank not in (2, 3):
            raise broken(session, "detector", f"its outputs should have 2 or 3 dimensions, not {rank}")
        size = session.inputs[0].shape[2:]
        if size[0] != size[1]:
            raise broken(session, "detector", f"its input is not square: {size}")
        self._sides = (SIDE, CLOSE_SIDE) if size[0] is None else (size[0],)
        self._batch = batch_limit(session, _BATCH)
        self._session = session
        self._threshold = threshold
        self._overlap = overlap

    def detect(self, image: Tensor) -> list[Face]:
        """The faces of ``[H, W, 3]``, largest first."""
        return self.detect_all(image[None])[0]

    def detect_all(self, images: Tensor, on_progress: Callable[[], None] = no_progress) -> list[list[Face]]:
        """The faces of every picture of ``[B, H, W, 3]``, RGB 0..1 on any device, largest first.

        `on_progress` is called once for each picture, before the network sees it for the first time.

        Raises:
            UserInputError: ``onnx_contract`` where the network's answer has another size than a detector's.
        """
        found: list[list[Face]] = [[] for _ in range(len(images))]
        for side in self._sides:
            missing = [index for index, faces in enumerate(found) if not faces]
            for start in range(0, len(missing), self._batch):
                part = missing[start : start + self._batch]
                if side == self._sides[0]:
                    for _ in part:
                        on_progress()
                for index, faces in zip(part, self._search([images[index] for index in part], side), strict=True):
                    found[index] = faces
        return found

    def blob(self, image: Tensor, side: int | None = None) -> tuple[Tensor, float]:
        """A picture ``[H, W, 3]`` in the upper left of a square of zeros, normalised, and its scale.

        Returns:
            float32 ``[1, 3, side, side]`` on the session's device; network pixels per picture pixel.
        """
        side = side or self._sides[0]
        height, width = image.shape[0], image.shape[1]
        # Divided in this order, as the reference does: the rounding decides on the last row.
        ratio = height / width
        rows, columns = (side, int(side / ratio)) if ratio > 1 else (int(side * ratio), side)
        rows, columns = max(rows, 1), max(columns, 1)
        small = resize_8bit(image[..., :3], rows, columns).to(self._session.device)
        square = small.new_zeros(1, 3, side, side)
        square[0, :, :rows, :columns] = small.permute(2, 0, 1)
        return (square - 127.5) / 128.0, rows / height

    def _search(self, images: Sequence[Tensor], side: int) -> list[list[Face]]:
        """The faces of pictures of one size."""
        made = [self.blob(image, side) for image in images]
        blob, scale = torch.cat([item[0] for item in made]), made[0][1]
        outputs = self._session.run({self._session.inputs[0].name: blob})
        levels = len(_STRIDES)
        values = [
            self._by_image(outputs[spec.name], len(images), side // _STRIDES[index % levels])
            for index, spec in enumerate(self._session.outputs)
        ]
        return [self._faces([value[image] for value in values], side, scale) for image in range(len(images))]

    def _by_image(self, output: Tensor, count: int, cells: int) -> FloatArray:
        """One output as ``[N, cells * cells * anchors, k]``."""
        width = output.shape[-1]
        if output.numel() != count * cells * cells * _ANCHORS * width:
            raise broken(
                self._session,
                "detector",
                f"{count} pictures of {cells} x {cells} cells gave an output of shape {list(output.shape)}",
            )
        if output.ndim == 2:
            # Flattened from [H, W, N, anchors * k].
            output = output.reshape(cells * cells, count, _ANCHORS, width).transpose(0, 1)
        values: FloatArray = output.reshape(count, -1, width).cpu().numpy()
        return values

    def _faces(self, outputs: Sequence[FloatArray], side: int, scale: float) -> list[Face]:
        """The faces of one picture, largest first, in its own pixels."""
        scores, boxes, points = [], [], []
        for level, stride in enumerate(_STRIDES):
            score = outputs[level][:, 0]
            keep = np.flatnonzero(score >= self._threshold)
            # Anchors lie at the cells' corners, two to each.
            at = np.stack(np.divmod(keep // _ANCHORS, side // stride)[::-1], axis=-1).astype(np.float32) * stride
            distance = outputs[level + 3][keep] * stride
            offset = outputs[level + 6][keep].reshape(-1, 5, 2) * stride
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
