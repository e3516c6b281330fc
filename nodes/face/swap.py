"""Putting people on the faces of a batch of images, with any engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from ..errors import UserInputError
from .align import paste
from .assign import Assignment, ByHand, Pair, most_alike, pairs_by_hand, pairs_of
from .engines import FaceEngine, Placement, SwapSettings, no_progress
from .identity import Identity, cosine
from .recogniser import space_of
from .select import check_faces
from .swap_report import ImageReport, Milliseconds
from .types import Face, FaceSet

Target = Literal["largest", "all"]
SeveralFaces = Literal["error", "largest"]

# Images that are worked on together, so that their faces share the networks' batches: at most so many, and so few that
# their pixels, of which an engine may want a copy on its device, are a small part of a large batch.
_CHUNK_IMAGES = 16
_CHUNK_PIXELS = 2**24


@dataclass(frozen=True, eq=False)
class SwapResult:
    """The swapped batch.

    Attributes:
        images: float32 ``[B, H, W, C]``, on the CPU.
        faces: the faces in it; replaced ones without what was read from their old pixels.
        mask: float32 ``[B, H, W]``, what was touched.
        report: one for each image.
        engine, provider: what did it.
    """

    images: Tensor
    faces: FaceSet
    mask: Tensor
    report: tuple[ImageReport, ...]
    engine: str
    provider: str

    def to_json(self) -> dict[str, object]:
        """The report as plain values."""
        return {"engine": self.engine, "provider": self.provider, "images": [item.to_json() for item in self.report]}


def photo_identity(
    engine: FaceEngine, photo: Tensor, several: SeveralFaces = "error", field: str = "photo"
) -> Identity:
    """The face of a photo ``[1, H, W, C]``, ready for swapping.

    Raises:
        UserInputError: ``photo_no_face`` or ``photo_several_faces``.
    """
    faces = engine.detect(three_channels(photo[:1])).faces[0]
    if not faces:
        raise UserInputError(
            "photo_no_face",
            field,
            "no face was found in the photo",
            "Use a photo in which one face is seen from the front, well lit and at least a tenth of the picture wide",
        )
    if len(faces) > 1 and several == "error":
        raise UserInputError(
            "photo_several_faces",
            field,
            f"the photo shows {len(faces)} faces and it is not clear which is meant",
            "Crop the photo to one person, or set several_faces_in_photo to largest",
        )
    return engine.identity(three_channels(photo[0]), faces[0])


def swap_faces(
    engine: FaceEngine,
    images: Tensor,
    identities: Sequence[Identity],
    *,
    faces: FaceSet | None = None,
    target: Target = "largest",
    assignment: Assignment = "first",
    lowest_similarity: float = -1.0,
    by_hand: Sequence[ByHand] | None = None,
    settings: SwapSettings | None = None,
    on_progress: Callable[[], None] = no_progress,
) -> SwapResult:
    """Puts people on faces of ``[B, H, W, C]``. Alpha and further channels are kept, and every pixel outside the masks.

    New faces are drawn from the images as they came and pasted in the order of the faces: where two overlap, the later
    lies on top, which among detected ones is the smaller. An image without a face passes through unchanged, and the
    report says so.

    Args:
        engine: finds, compares and draws.
        images: grey, RGB or RGBA, 0..1.
        identities: the people.
        faces: the faces to be replaced, all of them; None for those that the engine finds and `target` picks.
        target: the largest face of each image, or all.
        assignment: ``first`` puts the first identity on every face; ``order`` the n-th on an image's n-th face, further
            faces stay; ``similarity`` pairs an image's faces and the identities one to one, so that the sum of their
            similarities is largest.
        lowest_similarity: with ``similarity``, pairs that are less alike stay as they are.
        by_hand: for each image who goes on which face, instead of `target` and `assignment`.
        settings: how the faces are put in.
        on_progress: called before each image's detection and each face's drawing; interrupts by raising.

    Raises:
        UserInputError: ``identity_missing`` without an identity, ``faces_mismatch`` where `faces` are of images of
            another number or size, and what the engine raises.
    """
    if not identities:
        raise UserInputError(
            "identity_missing", "identity", "there is nobody to put in", "Connect a photo or an identity"
        )
    if faces is not None:
        check_faces(images, faces)
    count, height, width = images.shape[:3]
    settings = settings or SwapSettings()
    result = torch.empty(images.shape, dtype=torch.float32)
    mask = torch.zeros(count, height, width)
    known, reports = [], []
    for part in _chunks(count, height * width):
        result[part] = images[part].detach()
        # For RGB on the CPU both are views: the images' one copy is the result, in which the faces are pasted.
        rgb, covered = three_channels(result[part]).to(engine.device), mask[part].to(engine.device)
        clock = _Clock()
        found = engine.detect(rgb, on_progress) if faces is None else replace(faces, faces=faces.faces[part])
        detecting = clock.lap()
        if by_hand is None:
            chosen = [own[:1] if faces is None and target == "largest" else own for own in found.faces]
            pairs = pairs_of(chosen, identities, assignment)
        else:
            pairs = pairs_by_hand(found.faces, identities, by_hand[part])
        before = _similarities(engine, rgb, pairs, found.recogniser if faces is None else "")
        if assignment == "similarity" and by_hand is None:
            kept = most_alike(pairs, before, lowest_similarity)
            pairs, before = [pairs[place] for place in kept], [before[place] for place in kept]
        comparing = clock.lap()
        patches = engine.patches(rgb, [pair.placement for pair in pairs], settings, on_progress)
        drawing = clock.lap()
        for pair, patch in zip(pairs, patches, strict=True):
            paste(rgb[pair.placement.image], covered[pair.placement.image], patch)
        pasting = clock.lap()
        renewed = {pair.placement.face: _renewed(pair.placement.face) for pair in pairs}
        placements = [replace(pair.placement, face=renewed[pair.placement.face]) for pair in pairs]
        after = engine.compare(rgb, placements)
        comparing += clock.lap()
        _write_back(result[part], rgb)
        if covered.device != mask.device:
            mask[part] = covered
        pasting += clock.lap()
        known.append(replace(found, faces=tuple(tuple(renewed.get(f, f) for f in own) for own in found.faces)))
        spent = Milliseconds(detecting, drawing, pasting, comparing)
        reports += _reports(found, pairs, before, after, spent)
    first = known[0] if known else FaceSet((), height, width, engine.name)
    everyone = replace(first, faces=tuple(own for part in known for own in part.faces))
    return SwapResult(result, everyone, mask, tuple(reports), engine.name, engine.provider)


def three_channels(images: Tensor) -> Tensor:
    """RGB ``[..., H, W, 3]`` of grey, RGB or RGBA images."""
    grey = images.shape[-1] == 1
    return images.expand(*images.shape[:-1], 3).contiguous() if grey else images[..., :3].contiguous()


def _chunks(count: int, pixels: int) -> Iterator[slice]:
    """Slices of a batch of `count` images of so many pixels each."""
    step = min(max(_CHUNK_PIXELS // max(pixels, 1), 1), _CHUNK_IMAGES)
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))


class _Clock:
    def __init__(self) -> None:
        self._last = time.perf_counter()

    def lap(self) -> float:
        """Milliseconds since the last call."""
        now = time.perf_counter()
        passed, self._last = 1000.0 * (now - self._last), now
        return passed


def _similarities(engine: FaceEngine, images: Tensor, pairs: Sequence[Pair], recogniser: str) -> list[float]:
    """How alike each pair is. Embeddings that `recogniser` has just made of these images are not made again."""
    placements = [pair.placement for pair in pairs]
    if recogniser:
        known = [_known_similarity(item, recogniser) for item in placements]
        values = [value for value in known if value is not None]
        if len(values) == len(placements):
            return values
    return list(engine.compare(images, placements))


def _known_similarity(placement: Placement, recogniser: str) -> float | None:
    now, person = placement.face.embedding, placement.identity
    if now is None or person.embedding is None or space_of(person.recogniser) != space_of(recogniser):
        return None
    return cosine(now, person.embedding)


def _renewed(face: Face) -> Face:
    """A replaced face: it lies where the old one was, but what was read from the old pixels no longer holds."""
    return replace(face, embedding=None, sex=None, age=None)


def _reports(
    found: FaceSet, pairs: Sequence[Pair], before: Sequence[float], after: Sequence[float], spent: Milliseconds
) -> list[ImageReport]:
    """Of the images of one chunk, which took `spent` altogether."""
    reports = []
    for image, faces in enumerate(found.faces):
        own = [place for place, pair in enumerate(pairs) if pair.placement.image == image]
        share = len(own) / max(len(pairs), 1)
        reports.append(
            ImageReport(
                len(faces),
                tuple(pairs[place].number for place in own),
                tuple(pairs[place].identity for place in own),
                tuple(before[place] for place in own),
                tuple(after[place] for place in own),
                Milliseconds(
                    spent.detect / len(found.faces), share * spent.swap, share * spent.paste, share * spent.compare
                ),
            )
        )
    return reports


def _write_back(images: Tensor, rgb: Tensor) -> None:
    """Puts RGB pictures into ``[B, H, W, C]``, from which ``three_channels`` made them: as luma into grey ones."""
    if images.shape[-1] == 1:
        # Untouched pixels have three equal channels; their mean could differ in the last bit.
        mixed, now = rgb.mean(-1, keepdim=True).to(images.device), rgb.to(images.device)
        images.copy_(torch.where((now == images).all(-1, keepdim=True), images, mixed))
    elif rgb.data_ptr() != images.data_ptr():
        images[..., :3] = rgb
