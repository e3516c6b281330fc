"""Interleaved tiles."""

from __future__ import annotations

import pytest
import torch

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.pixel_boost import check_factor, join_tiles, largest_factor, split_tiles


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 8])
def test_joining_undoes_splitting_to_the_bit(factor: int) -> None:
    crops = torch.rand(3, 8 * factor, 8 * factor, 3, generator=torch.Generator().manual_seed(factor))
    tiles = split_tiles(crops, factor)
    assert tiles.shape == (3 * factor * factor, 8, 8, 3)
    assert torch.equal(join_tiles(tiles, factor), crops)


def test_every_tile_shows_the_whole_face() -> None:
    """Tile (r, c) of crop n is ``crop[r::k, c::k]``, the crops' tiles following one another."""
    crops = torch.arange(2 * 6 * 6, dtype=torch.float32).reshape(2, 6, 6, 1)
    tiles = split_tiles(crops, 3)
    for number in range(2):
        for row in range(3):
            for column in range(3):
                assert torch.equal(tiles[number * 9 + row * 3 + column], crops[number, row::3, column::3])


def test_crops_stay_below_1024() -> None:
    assert [largest_factor(size) for size in (128, 256, 512)] == [8, 4, 2]
    check_factor(8, 128)
    for factor, size in ((0, 128), (9, 128), (5, 256), (3, 512)):
        with pytest.raises(UserInputError) as caught:
            check_factor(factor, size)
        assert caught.value.code == "pixel_boost_range"
