"""Items picked out of a batch of latents."""

from __future__ import annotations

import pytest
import torch

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.retry.latents import noise_slots, select_latents


def test_items_keep_samples_slots_and_other_entries() -> None:
    latent = {"samples": torch.arange(4.0).reshape(4, 1, 1, 1), "downscale_ratio_spacial": 8}
    chosen = select_latents(latent, [1, 3], 4)
    assert chosen["samples"].flatten().tolist() == [1.0, 3.0]
    assert chosen["batch_index"] == [1, 3]
    assert chosen["downscale_ratio_spacial"] == 8
    assert "batch_index" not in latent


def test_slots_of_a_batch_that_was_cut_before() -> None:
    latent = {"samples": torch.zeros(3, 4, 8, 8), "batch_index": [5, 6, 9]}
    assert select_latents(latent, [2], 3)["batch_index"] == [9]
    assert noise_slots(latent) == [5, 6, 9]


def test_each_item_takes_its_own_mask() -> None:
    masks = torch.arange(4.0).reshape(4, 1, 1, 1)
    assert select_latents({"samples": torch.zeros(4, 4, 8, 8), "noise_mask": masks}, [2], 4)["noise_mask"].item() == 2.0


def test_fewer_masks_than_items_repeat_as_the_sampler_repeats_them() -> None:
    masks = torch.arange(2.0).reshape(2, 1, 1, 1)
    assert select_latents({"samples": torch.zeros(4, 4, 8, 8), "noise_mask": masks}, [3], 4)["noise_mask"].item() == 1.0


def test_one_mask_serves_all() -> None:
    mask = torch.ones(1, 1, 8, 8)
    assert select_latents({"samples": torch.zeros(4, 4, 8, 8), "noise_mask": mask}, [3], 4)["noise_mask"] is mask


@pytest.mark.parametrize("samples", [torch.zeros(1, 4, 8, 8), torch.zeros(5, 4, 8, 8)])
def test_latents_that_are_not_one_per_image_are_refused(samples: torch.Tensor) -> None:
    with pytest.raises(UserInputError, match=f"4 images came from {len(samples)} latents"):
        select_latents({"samples": samples}, [0], 4)
