"""A crop larger than the network's, drawn as interleaved tiles.

Tile (r, c) holds every k-th pixel of every k-th row, starting at row r and column c, so that each tile shows the whole
face at the network's own size and the tiles' drawings interlock again. From facefusion's pixel boost.
"""

from __future__ import annotations

from torch import Tensor

from ..errors import UserInputError

LARGEST_FACTOR = 8
LARGEST_SIDE = 1024


def largest_factor(size: int) -> int:
    """The most tiles a side for a network of this size."""
    return max(1, min(LARGEST_FACTOR, LARGEST_SIDE // size))


def check_factor(factor: int, size: int) -> None:
    """Refuses factors that make crops larger than 1024.

    Raises:
        UserInputError: ``pixel_boost_range``.
    """
    most = largest_factor(size)
    if not 1 <= factor <= most:
        raise UserInputError(
            "pixel_boost_range",
            "pixel_boost",
            f"{factor} tiles a side of a {size}-pixel network is outside 1 to {most}",
            f"Set it to {most} or less",
        )


def split_tiles(crops: Tensor, factor: int) -> Tensor:
    """Tiles ``[n * factor * factor, size, size, C]`` of crops ``[n, size * factor, size * factor, C]``."""
    count, side, _, channels = crops.shape
    size = side // factor
    grid = crops.reshape(count, size, factor, size, factor, channels)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(count * factor * factor, size, size, channels)


def join_tiles(tiles: Tensor, factor: int) -> Tensor:
    """The inverse of ``split_tiles``."""
    size, channels = tiles.shape[1], tiles.shape[3]
    grid = tiles.reshape(-1, factor, factor, size, size, channels)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, size * factor, size * factor, channels)
