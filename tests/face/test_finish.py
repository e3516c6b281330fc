"""What a drawing goes through before it is pasted, on pictures whose colours are known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from flux_face.nodes.face.align import ARCFACE_128, Matrix, Patch
from flux_face.nodes.face.engines import SwapSettings
from flux_face.nodes.face.finish import finished_patches
from flux_face.nodes.face.masks import MaskSettings
from flux_face.nodes.face.swapper import Drawing
from flux_face.nodes.face.types import Face, FloatArray

SIDE = 128
IDENTITY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
SKIN = torch.tensor([0.78, 0.58, 0.48])
# Skin in the shade: of the kind that counts as skin.
SHADE = torch.tensor([0.70, 0.51, 0.42])


def plain(colour: Tensor) -> Tensor:
    return colour.expand(1, SIDE, SIDE, 3).clone()


def patch(drawing: Drawing, crop: Tensor, settings: SwapSettings, contour: FloatArray | None = None) -> Patch:
    points = (ARCFACE_128 * SIDE).astype(np.float32)
    face = Face((0.0, 0.0, float(SIDE), float(SIDE)), 1.0, points, contour=contour)
    return finished_patches(drawing, crop, [IDENTITY], [face], ARCFACE_128, settings)[0]


def test_the_drawing_takes_the_tone_of_what_the_mask_takes_in() -> None:
    drawn = Drawing(plain(torch.tensor([0.85, 0.7, 0.62])), None)
    crop = plain(SKIN)
    crop[:, 90:] = SHADE
    whole = patch(drawn, crop, SwapSettings(mask=MaskSettings(softness=0.02))).pixels[64, 64]
    upper = MaskSettings(padding=(0.0, 0.0, 0.35, 0.0), softness=0.02)
    limited = patch(drawn, crop, SwapSettings(mask=upper)).pixels[64, 64]
    torch.testing.assert_close(limited, SKIN, atol=0.01, rtol=0)
    assert float((limited - whole).max()) > 0.01


def test_no_colour_match_leaves_the_drawing_as_it_is() -> None:
    pixels = torch.rand(1, SIDE, SIDE, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(patch(Drawing(pixels, None), plain(SKIN), SwapSettings(colour_match=0.0)).pixels, pixels[0])


def test_masks_are_combined_by_their_minimum_and_scaled_by_the_blend() -> None:
    learned = torch.full((1, SIDE, SIDE), 0.5)
    learned[:, :40] = 0.0
    settings = SwapSettings(colour_match=0.0, blend=0.6)
    mask = patch(Drawing(plain(SKIN), learned), plain(SKIN), settings).mask
    assert float(mask[:40].max()) == 0.0
    torch.testing.assert_close(mask[64, 40:88], torch.full((48,), 0.3))
    without = patch(Drawing(plain(SKIN), None), plain(SKIN), settings).mask
    torch.testing.assert_close(without[64, 64], torch.tensor(0.6))
    assert float(without[0].max()) == float(without[:, -1].max()) == 0.0


class Whitener:
    """A restorer that paints white and remembers what it was given."""

    name = "white"
    side = 512

    def restore(self, crops: Tensor, template: Matrix) -> Tensor:
        """See ``restorer.Restorer``."""
        self.crops, self.template = crops, template
        return torch.ones_like(crops)


def test_the_restorer_is_given_its_own_size_and_where_the_face_lies() -> None:
    restorer = Whitener()
    settings = SwapSettings(colour_match=0.0, restorer=restorer, restore_strength=0.25)
    done = patch(Drawing(plain(SKIN), None), plain(SKIN), settings)
    assert restorer.crops.shape == (1, 512, 512, 3)
    torch.testing.assert_close(done.pixels[256, 256], 0.75 * SKIN + 0.25, atol=1e-5, rtol=0)
    # Landmarks lie in the larger crop where its matrix puts them.
    points = np.concatenate([ARCFACE_128 * SIDE, np.ones((5, 1))], axis=1) @ done.matrix.T
    np.testing.assert_allclose(restorer.template * 512, points, atol=1e-9)


def test_a_contour_shapes_the_landmark_mask() -> None:
    """A small outline about the nose replaces the one drawn from five points."""
    angles = np.linspace(0.0, 2.0 * np.pi, 106, endpoint=False)
    contour = (SIDE * ARCFACE_128[2] + 20.0 * np.stack([np.cos(angles), np.sin(angles)], axis=1)).astype(np.float32)
    settings = SwapSettings(colour_match=0.0, mask=MaskSettings(shapes=("landmarks",), softness=0.02))
    drawing = Drawing(plain(SKIN), None)
    drawn_by_hand = patch(drawing, plain(SKIN), settings).mask
    from_contour = patch(drawing, plain(SKIN), settings, contour).mask
    assert float(drawn_by_hand[100, 64]) == 1.0
    assert float(from_contour[100, 64]) == 0.0
    assert float(from_contour[72, 64]) == 1.0
