"""The training set: portraits from the renderer, stored in shards that can be made one by one."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from tqdm import tqdm

from .portrait import PortraitSpec
from .renderer import render
from .vocabulary import ATTRIBUTES, sample, sample_spec

SHARD = 500


def find_faces(rgb: npt.NDArray[np.uint8]) -> int:
    """How many faces scikit-image's LBP cascade finds in a 256-pixel portrait, uint8 [H,W,3]."""
    found = _cascade().detect_multi_scale(
        img=rgb, scale_factor=1.1, step_ratio=1, min_size=(60, 60), max_size=(256, 256)
    )
    return len(found)


@lru_cache(maxsize=1)
def _cascade() -> Any:
    from skimage.data import lbp_frontal_face_cascade_filename
    from skimage.feature import Cascade

    return Cascade(lbp_frontal_face_cascade_filename())


def to_bytes(rgb: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """0..1 to 0..255."""
    return (np.clip(rgb, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)


def draw(rng: np.random.Generator, size: int) -> tuple[npt.NDArray[np.uint8], tuple[str, ...]]:
    """A portrait in which the cascade finds exactly one face, uint8 [size,size,3], and its attributes.

    What the attributes say is drawn once, so that rejection does not thin out any skin tone; only the pose and
    the shape of the face are drawn again.
    """
    spec, said = sample(rng)
    for _ in range(8):
        picture = to_bytes(render(spec, size))
        if find_faces(picture) == 1:
            break
        spec = _another_pose(spec, rng)
    return picture, said


def _another_pose(spec: PortraitSpec, rng: np.random.Generator) -> PortraitSpec:
    other = sample_spec(rng)
    return replace(spec, tilt=other.tilt, shift=other.shift, scale=other.scale, width=other.width)


def make_shard(index: int, folder: Path, seed: int, size: int = 256) -> Path:
    """Shard `index`: images uint8 [SHARD,size,size,3] and attributes uint8 [SHARD,len(ATTRIBUTES)], multi-hot."""
    path = folder / f"portraits-{index:03d}.safetensors"
    if path.exists():
        return path
    rng = np.random.default_rng((seed, index))
    images = np.empty((SHARD, size, size, 3), dtype=np.uint8)
    attributes = np.zeros((SHARD, len(ATTRIBUTES)), dtype=np.uint8)
    for row in range(SHARD):
        images[row], said = draw(rng, size)
        attributes[row, [ATTRIBUTES.index(name) for name in said]] = 1
    partial_path = path.with_suffix(".partial")
    save_file({"images": torch.from_numpy(images), "attributes": torch.from_numpy(attributes)}, partial_path)
    partial_path.replace(path)
    return path


def make_shards(folder: Path, count: int, seed: int, workers: int) -> list[Path]:
    """`count` shards; those already there are kept. Threads help: NumPy lets go of the interpreter lock."""
    folder.mkdir(parents=True, exist_ok=True)
    job = partial(make_shard, folder=folder, seed=seed)
    with ThreadPoolExecutor(workers) as pool:
        return list(tqdm(pool.map(job, range(count)), total=count, desc="portraits", unit="shard"))


@dataclass(frozen=True)
class Shard:
    """images: uint8 [N,H,W,3]. attributes: uint8 [N,len(ATTRIBUTES)], multi-hot."""

    images: torch.Tensor
    attributes: torch.Tensor


def read_shards(paths: list[Path]) -> Iterator[Shard]:
    for path in paths:
        tensors = load_file(path)
        yield Shard(tensors["images"], tensors["attributes"])
