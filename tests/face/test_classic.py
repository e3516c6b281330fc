"""The engine without weights, on photographs and on rendered portraits whose truth is known."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from scipy import ndimage

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.classic.detect import find_candidates
from flux_face.nodes.face.classic.landmarks import grey_of, landmarks_of
from flux_face.nodes.face.classic.tone import in_tone_of
from flux_face.nodes.face.engines import ColourMethod, SwapSettings, classic_engine
from flux_face.nodes.face.swap import SwapResult, photo_identity, swap_faces
from flux_face.nodes.skin.colour import ciede2000, srgb_to_lab
from flux_face.starter.portrait import HAIR_STYLES, PortraitSpec
from flux_face.starter.renderer import render_with_truth

ENGINE = classic_engine()


@lru_cache(maxsize=1)
def astronaut() -> Image.Image:
    import skimage.data

    return Image.fromarray(skimage.data.astronaut())


@lru_cache(maxsize=1)
def group() -> torch.Tensor:
    """Six people round a table, ``[1, H, W, 3]``."""
    import insightface

    return as_image(Image.open(Path(insightface.__file__).parent / "data" / "images" / "t1.jpg").convert("RGB"))


def as_image(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(picture, dtype=np.float32) / 255.0)[None]


@lru_cache(maxsize=32)
def portrait(index: int) -> tuple[torch.Tensor, npt.NDArray[np.float32]]:
    """A portrait ``[1, 256, 256, 3]`` and its five landmarks."""
    rng = np.random.default_rng(index)
    spec = PortraitSpec(
        skin=1 + index % 10,
        hair_style=HAIR_STYLES[index % len(HAIR_STYLES)],
        femininity=float(rng.random()),
        age=float(rng.random()),
        smile=float(rng.random()),
        tilt=float(rng.uniform(-8, 8)),
        scale=float(rng.uniform(0.9, 1.1)),
    )
    rgb, truth = render_with_truth(spec)
    # The renderer counts from the corner of the first pixel, landmarks from its centre.
    return torch.from_numpy(rgb)[None], truth.points() - np.float32(0.5)


def test_one_face_in_every_portrait_and_its_landmarks() -> None:
    errors = []
    for index in range(10):
        image, truth = portrait(index)
        faces = ENGINE.detect(image).faces[0]
        assert len(faces) == 1, index
        span = np.linalg.norm(truth[1] - truth[0])
        errors.append(np.linalg.norm(faces[0].landmarks - truth, axis=1) / span)
    # Share of the distance between the eyes; 0.1 is the usual bar for eyes, 0.05 is an iris.
    assert np.quantile(np.array(errors)[:, :2], 0.9) < 0.05
    assert np.quantile(np.array(errors)[:, 2:], 0.9) < 0.15


@pytest.mark.parametrize("degrees", [-30, -20, 0, 20, 30])
def test_a_photograph_tilted(degrees: int) -> None:
    turned = astronaut().rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128))
    faces = ENGINE.detect(as_image(turned)).faces[0]
    assert len(faces) == 1
    left, right = faces[0].landmarks[0], faces[0].landmarks[1]
    # Eyes of the upright photograph, read off by hand.
    upright = np.array([[203.5, 101.5], [246.9, 103.8]]) - 255.5
    angle = np.radians(-degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    expected = upright @ turn.T + 255.5
    np.testing.assert_allclose(np.stack([left, right]), expected, atol=4.0)


# The face of the group's sixth is seen from the side.
SEEN_FROM_THE_FRONT = ((515, 350), (783, 420), (1172, 345), (115, 335), (312, 215))


def test_several_people() -> None:
    faces = ENGINE.detect(group()).faces[0]
    assert len(faces) == len(SEEN_FROM_THE_FRONT), "and no hand"
    centres = np.array([face.landmarks.mean(axis=0) for face in faces])
    for x, y in SEEN_FROM_THE_FRONT:
        assert np.linalg.norm(centres - (x, y), axis=1).min() < 30
    assert [f.width for f in faces] == sorted((f.width for f in faces), reverse=True)


@pytest.mark.parametrize(
    "name", ["coffee", "rocket", "brick", "grass", "gravel", "page", "text", "camera", "chelsea", "motorcycle"]
)
def test_nothing_in_a_picture_without_a_frontal_face(name: str) -> None:
    """Things, textures, print, a cat, and a man from the side."""
    assert ENGINE.detect(as_image(photograph(name))).faces == ((),)


@pytest.mark.parametrize("part", [(545, 375, 720, 520), (660, 470, 900, 640), (0, 520, 1280, 886)])
def test_nothing_in_hands(part: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = part
    hands = group()[:, top:bottom, left:right]
    enlarged = torch.nn.functional.interpolate(hands.permute(0, 3, 1, 2), scale_factor=2.0, mode="bilinear")
    for image in (hands, enlarged.permute(0, 2, 3, 1)):
        assert ENGINE.detect(image).faces == ((),)


def photograph(name: str) -> Image.Image:
    import skimage.data

    made = getattr(skimage.data, name) if name != "motorcycle" else lambda: skimage.data.stereo_motorcycle()[0]
    return Image.fromarray(made()).convert("RGB")


# Faces of 40 to 240 pixels across, upright and tilted, in a picture of 1024 pixels: size of the pasted picture, its
# place and tilt. A portrait's face is 0.45 of its side wide, the astronaut's 0.19 of hers.
PLACES = ((560, (20, 20), 0.0), (300, (600, 10), -25.0), (200, (820, 330), 15.0), (95, (640, 380), 0.0))


@lru_cache(maxsize=8)
def composite(index: int) -> tuple[torch.Tensor, npt.NDArray[np.float64]]:
    """Four faces in a photograph without any, ``[1, 640, 1024, 3]``, and their places: eyes' middle, xy."""
    canvas = photograph(("coffee", "motorcycle", "gravel", "rocket", "brick")[index]).resize((1024, 640))
    middles = []
    for number, (side, (left, top), tilt) in enumerate(PLACES):
        drawn, points = portrait(10 + 4 * index + number)
        face = Image.fromarray((drawn[0].numpy() * 255).astype(np.uint8))
        middle = points[:2].mean(0)
        if number == index % 2:
            # The photograph's head and shoulders; her eyes as read off by hand.
            face = astronaut().crop((115, 0, 335, 220))
            middle = np.array([225.2 - 115, 102.6])
        mask = Image.new("L", face.size, 255).rotate(-tilt)
        turned = face.rotate(-tilt, Image.Resampling.BICUBIC)
        canvas.paste(turned.resize((side, side)), (left, top), mask.resize((side, side)))
        angle, half = np.radians(tilt), (face.width - 1) / 2
        offset = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) @ (middle - half)
        middles.append((offset + half) * side / face.width + (left, top))
    return as_image(canvas), np.array(middles)


@pytest.mark.parametrize("index", range(5))
def test_every_face_of_a_composed_picture_and_nothing_else(index: int) -> None:
    image, middles = composite(index)
    faces = ENGINE.detect(image).faces[0]
    found = np.array([face.landmarks[:2].mean(0) for face in faces])
    spans = np.array([np.linalg.norm(face.landmarks[1] - face.landmarks[0]) for face in faces])
    away = np.linalg.norm(found[:, None] - middles, axis=2) / spans[:, None]
    assert len(faces) == len(middles)
    assert (away.min(axis=0) < 0.25).all()


def test_scores_tell_faces_from_chance() -> None:
    people = [*ENGINE.detect(group()).faces[0], *(ENGINE.detect(portrait(index)[0]).faces[0][0] for index in range(10))]
    assert min(face.score for face in people) > 0.65
    assert max(face.score for face in people) <= 1.0
    picture = as_image(photograph("camera"))[0]
    chance = [landmarks_of(picture, place) for place in find_candidates(grey_of(picture).numpy(), 0.1)]
    assert chance, "the search is given the chance to err"
    assert max(face.score for face in chance) < 0.45


@lru_cache(maxsize=1)
def swapped() -> tuple[torch.Tensor, SwapResult]:
    images = torch.cat([portrait(index)[0] for index in range(4)])
    return images, swap_faces(ENGINE, images, [photo_identity(ENGINE, as_image(astronaut()))])


def test_the_swapped_face_is_the_photos() -> None:
    _, result = swapped()
    for item in result.report:
        assert item.swapped == 1
        assert item.similarity[0] > 0.7
        assert item.similarity[0] > item.similarity_before[0] + 0.3


def test_pixels_outside_the_mask_are_untouched() -> None:
    images, result = swapped()
    untouched = result.mask == 0
    assert torch.equal(result.images[untouched], images[untouched])
    assert 0.5 < float(untouched.float().mean()) < 0.95
    assert result.images.min() >= 0
    assert result.images.max() <= 1


def astronaut_cheek() -> torch.Tensor:
    """The colour of the photo's skin."""
    return as_image(astronaut())[0, 114:123, 199:208].mean((0, 1))


def test_the_new_face_takes_the_old_ones_tone() -> None:
    images, result = swapped()
    photo = astronaut_cheek()
    for before, after, faces in zip(images, result.images, result.faces.faces, strict=True):
        left, right, nose = faces[0].landmarks[:3]
        # Both cheeks together: below the eyes, at the height of the nose tip. One alone may be in shadow.
        y = round(float(nose[1]))
        cheeks = [(slice(y - 4, y + 5), slice(x - 4, x + 5)) for x in (round(float(eye[0])) for eye in (left, right))]
        old, new = (torch.stack([image[cheek].mean((0, 1)) for cheek in cheeks]).mean(0) for image in (before, after))
        assert (new - old).norm() < 0.12 + 0.2 * (photo - old).norm()


@lru_cache(maxsize=1)
def tone_errors() -> npt.NDArray[np.float32]:
    """CIEDE2000 of the cheeks before and after, for the ten steps of the Monk scale."""
    source = photo_identity(ENGINE, as_image(astronaut()))
    errors = []
    for index in range(10):
        image, points = portrait(index)
        result = swap_faces(ENGINE, image, [source])
        span = float(np.linalg.norm(points[1] - points[0]))
        y, x = np.mgrid[:256, :256]
        cheeks = np.zeros((256, 256), dtype=bool)
        for eye in points[:2]:
            cheeks |= np.hypot(x - eye[0], y - eye[1] - 0.55 * span) < 0.2 * span
        before, after = (srgb_to_lab(picture[0])[cheeks].median(0).values for picture in (image, result.images))
        errors.append(float(ciede2000(before, after)))
    return np.array(errors, dtype=np.float32)


def test_every_tone_is_kept_alike() -> None:
    errors = tone_errors()
    # 5 is a difference that is seen at a glance; the photo's skin is 60 from the deepest.
    assert errors.max() < 5.0
    # No tone is served worse: deep and light halves of the scale differ by less than is seen.
    assert abs(errors[:5].mean() - errors[5:].mean()) < 2.0


@pytest.mark.parametrize("method", ["mean_std", "histogram"])
@pytest.mark.parametrize("skin", [(20.0, 4.0, 6.0), (75.0, 12.0, 20.0)])
def test_eyes_teeth_and_brows_take_no_tint(skin: tuple[float, float, float], method: ColourMethod) -> None:
    """Neutral black, grey and white in a photo's face stay neutral and in order on another skin."""
    source = torch.tensor([50.0, 15.0, 25.0]).repeat(30, 30, 1) + torch.randn(30, 30, 3, generator=seeded(1))
    target = torch.tensor(skin).repeat(30, 30, 1) + torch.randn(30, 30, 3, generator=seeded(2))
    is_skin = torch.ones(30, 30)
    greys = torch.tensor([2.0, 40.0, 97.0])
    for row, lightness in enumerate(greys):
        source[row] = torch.stack([lightness, torch.tensor(0.0), torch.tensor(0.0)])
        is_skin[row] = 0.0
    result = in_tone_of(source, target, is_skin, torch.ones(30, 30), torch.ones(30, 30), method)
    assert result[:3, :, 1:].abs().max() < 1e-4
    black, grey, white = result[:3, 0, 0]
    assert black < 5.0
    assert black < grey < white
    assert white > skin[0] + 20.0
    torch.testing.assert_close(result[3:].mean((0, 1)), target.mean((0, 1)), atol=1.0, rtol=0.0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_no_seam_where_the_mask_fades() -> None:
    """Across the rim the picture changes little more than the portrait itself did."""
    images, result = swapped()
    for before, after, mask in zip(images, result.images, result.mask, strict=True):
        rim = (mask > 0.05) & (mask < 0.5)
        steps = [float(image.diff(dim=1).abs().mean(-1)[rim[:, 1:]].mean()) for image in (before, after)]
        assert steps[1] < 1.25 * steps[0] + 0.004


def test_the_new_face_is_as_soft_as_the_picture() -> None:
    """Into a blurred picture goes a blurred face, into a crisp one a crisp face."""
    source = photo_identity(ENGINE, as_image(astronaut()))
    crisp = portrait(4)[0]
    soft = torch.from_numpy(ndimage.gaussian_filter(crisp.numpy(), (0, 2.5, 2.5, 0)))
    detail = []
    for image in (crisp, soft):
        result = swap_faces(ENGINE, image, [source])
        edges = ndimage.laplace(result.images[0].mean(-1).numpy())[result.mask[0].numpy() > 0.99]
        detail.append(float((edges**2).mean()))
    assert detail[1] < 0.1 * detail[0]


@pytest.mark.parametrize("degrees", [-25, 25])
def test_no_seam_in_a_photograph_of_a_tilted_face(degrees: int) -> None:
    source = photo_identity(ENGINE, portrait(6)[0])
    image = as_image(astronaut().rotate(degrees, Image.Resampling.BICUBIC, fillcolor=(128, 128, 128)))
    result = swap_faces(ENGINE, image, [source])
    rim = (result.mask[0] > 0.05) & (result.mask[0] < 0.5)
    steps = [float(picture[0].diff(dim=1).abs().mean(-1)[rim[:, 1:]].mean()) for picture in (image, result.images)]
    assert steps[1] < 1.1 * steps[0]


def test_blend_nothing_changes_nothing() -> None:
    image, _ = portrait(3)
    source = photo_identity(ENGINE, as_image(astronaut()))
    result = swap_faces(ENGINE, image, [source], settings=SwapSettings(blend=0.0))
    assert torch.equal(result.images, image)


def test_all_faces_of_a_picture() -> None:
    source = photo_identity(ENGINE, as_image(astronaut()))
    result = swap_faces(ENGINE, group(), [source], target="all")
    report = result.report[0]
    assert report.swapped == report.faces >= 3
    assert torch.equal(result.images[result.mask == 0], group()[result.mask == 0])


@pytest.mark.parametrize("channels", [1, 4])
def test_grey_and_alpha_keep_their_channels(channels: int) -> None:
    image = portrait(0)[0]
    image = image.mean(-1, keepdim=True) if channels == 1 else torch.cat([image, torch.rand(1, 256, 256, 1)], -1)
    result = swap_faces(ENGINE, image, [photo_identity(ENGINE, as_image(astronaut()))])
    assert result.images.shape == image.shape
    assert torch.equal(result.images[result.mask == 0], image[result.mask == 0])
    if channels == 4:
        assert torch.equal(result.images[..., 3], image[..., 3])
    assert result.report[0].swapped == 1


@pytest.mark.parametrize("channels", [1, 4])
def test_a_photo_of_other_channels_is_as_good(channels: int) -> None:
    photo = as_image(astronaut())
    photo = photo.mean(-1, keepdim=True) if channels == 1 else torch.cat([photo, torch.rand_like(photo[..., :1])], -1)
    result = swap_faces(ENGINE, portrait(0)[0], [photo_identity(ENGINE, photo)])
    assert result.images.shape == (1, 256, 256, 3)
    assert result.report[0].similarity[0] > 0.5


def test_odd_sizes_and_a_face_cut_by_the_border() -> None:
    image = portrait(0)[0][:, 41:, 70:241]
    result = swap_faces(ENGINE, image, [photo_identity(ENGINE, as_image(astronaut()))])
    assert result.images.shape == image.shape
    assert torch.isfinite(result.images).all()
    assert torch.equal(result.images[result.mask == 0], image[result.mask == 0])


def test_an_image_without_a_face_passes_through() -> None:
    images = torch.cat([torch.rand(1, 256, 256, 3), portrait(0)[0]])
    result = swap_faces(ENGINE, images, [photo_identity(ENGINE, as_image(astronaut()))])
    assert [item.faces for item in result.report] == [0, 1]
    assert torch.equal(result.images[0], images[0])
    assert result.faces.faces[0] == ()


def test_a_photo_without_a_face_is_refused() -> None:
    with pytest.raises(UserInputError) as caught:
        photo_identity(ENGINE, torch.full((1, 200, 300, 3), 0.5))
    assert caught.value.code == "photo_no_face"


def test_a_photo_of_several_people_is_refused_unless_allowed() -> None:
    with pytest.raises(UserInputError) as caught:
        photo_identity(ENGINE, group())
    assert caught.value.code == "photo_several_faces"
    face = photo_identity(ENGINE, group(), "largest").face
    assert face is not None
    assert face.width > 100


def test_progress_may_interrupt() -> None:
    calls = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    images = torch.cat([portrait(0)[0], portrait(1)[0]])
    source = photo_identity(ENGINE, as_image(astronaut()))
    with pytest.raises(KeyboardInterrupt):
        swap_faces(ENGINE, images, [source], on_progress=stop)
    assert len(calls) == 3
