"""QA of batches, good and bad."""

from __future__ import annotations

import json
import re
from pathlib import Path

import folder_paths
import pytest
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image

from flux_face.devtools.pack import ROOT
from flux_face.nodes.errors import UserInputError
from flux_face.nodes.skin.colour import srgb_to_lab
from flux_face.nodes.skin.nodes import FluxFaceSkinGate, FluxFaceSkinToneQA, describe
from flux_face.nodes.skin.overlay import draw_overlay
from flux_face.nodes.skin.qa import inspect_images, measure_photo
from flux_face.nodes.skin.thresholds import Thresholds
from flux_face.nodes.skin.verdict import Reason, Verdict
from flux_face.starter.portrait import SkinDefect
from flux_face.tests.skin.portraits import astronaut, face_set, portrait


def test_each_image_gets_its_own_verdict() -> None:
    good, face = portrait(5)
    bad, other = portrait(3, defect=SkinDefect.GREEN)
    batch = torch.stack((good, bad, good))
    found = inspect_images(batch, face_set([[face], [other], []], batch), Thresholds())
    assert [inspection.verdict.passed for inspection in found] == [True, False, False]
    assert found[2].verdict.reasons[0].code == "no_face"


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), -float("inf")])
def test_an_image_with_bad_pixels_fails_alone(poison: float) -> None:
    good, face = portrait(5)
    bad = good.clone()
    bad[3, 4, 1] = poison
    batch = torch.stack((bad, good))
    found = inspect_images(batch, face_set([[face], [face]], batch), Thresholds())
    assert found[0].verdict.reasons[0].code == "bad_pixels"
    assert found[1].verdict.passed


@pytest.mark.parametrize("shape", [(0, 64, 64, 3), (1, 0, 64, 3)])
def test_empty_batches_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserInputError, match="there are no images"):
        inspect_images(torch.zeros(shape), face_set([], torch.zeros(shape)), Thresholds())


@pytest.mark.parametrize("shape", [(64, 64, 3), (1, 64, 64), (1, 64, 64, 1)])
def test_what_is_no_rgb_batch_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UserInputError, match="no batch of RGB images"):
        inspect_images(torch.zeros(shape), face_set([], torch.zeros(1, 64, 64, 3)), Thresholds())


def test_faces_of_other_images_are_refused() -> None:
    image, face = portrait(5)
    with pytest.raises(UserInputError, match="they are of 2 images"):
        inspect_images(image[None], face_set([[face], [face]], image), Thresholds())
    with pytest.raises(UserInputError, match="they are of 1 images of 10x10"):
        inspect_images(image[None], face_set([[face]], torch.zeros(10, 10, 3)), Thresholds())


def test_values_beyond_the_range_count_as_its_ends() -> None:
    image, face = portrait(5)
    (found,) = inspect_images((image * 3.0 - 1.0)[None], face_set([[face]], image), Thresholds())
    assert 0.0 <= found.verdict.score <= 1.0


@pytest.mark.parametrize("size", [1, 2, 7])
def test_tiny_images_fail(size: int) -> None:
    verdicts = FluxFaceSkinToneQA.execute(torch.rand(2, size, size, 3)).result[1]
    assert [verdict.reasons[0].code for verdict in verdicts] == ["no_face", "no_face"]
    _, face = portrait(5)
    tiny = torch.rand(1, size, size, 3)
    assert not inspect_images(tiny, face_set([[face]], tiny), Thresholds())[0].verdict.passed


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_monochrome_images_never_pass(value: float) -> None:
    image, face = portrait(5)
    plain = torch.full_like(image, value)[None]
    (found,) = inspect_images(plain, face_set([[face]], plain), Thresholds())
    assert "monochrome" in {reason.code for reason in found.verdict.reasons}


def test_a_photo_without_a_face_is_refused() -> None:
    image, _ = astronaut()
    with pytest.raises(UserInputError, match="photo: no face was found"):
        measure_photo(image[None], face_set([[]], image))


def test_the_node_finds_faces_by_itself() -> None:
    image, _ = astronaut()
    images, verdicts, score, report, report_json, overlay, *_ = FluxFaceSkinToneQA.execute(image[None]).result
    assert torch.equal(images, image[None])
    assert verdicts[0].passed
    assert score == verdicts[0].score
    assert report.startswith("image 1: passed")
    document = json.loads(report_json)
    assert document["passed"] == 1
    assert document["items"][0]["measured"]["monk_step"] <= 5
    assert overlay.shape == image[None].shape


def test_the_node_compares_with_the_photo() -> None:
    image, _ = astronaut()
    verdicts = FluxFaceSkinToneQA.execute(image[None], photo=image[None], preset="strict").result[1]
    assert "photo_mismatch" in verdicts[0].measured
    assert verdicts[0].measured["photo_mismatch"] == pytest.approx(0.0, abs=0.1)


def test_the_node_parts_the_batch() -> None:
    good, face = portrait(5)
    bad, other = portrait(3, defect=SkinDefect.GREEN)
    batch = torch.stack((good, bad, good))
    passed, failed, mask = FluxFaceSkinToneQA.execute(batch, face_set([[face], [other], [face]], batch)).result[-3:]
    assert torch.equal(passed, torch.stack((good, good)))
    assert torch.equal(failed, bad[None])
    assert mask.shape == batch.shape[:3]
    assert not mask[0].any()
    nose_x, nose_y = (round(float(value)) for value in other.landmarks[2])
    assert mask[1, nose_y, nose_x] == 1.0
    assert mask[1, 0, 0] == 0.0


def test_nothing_runs_behind_an_output_without_images() -> None:
    good, face = portrait(5)
    passed, failed, mask = FluxFaceSkinToneQA.execute(good[None], face_set([[face]], good)).result[-3:]
    assert torch.equal(passed, good[None])
    assert isinstance(failed, ExecutionBlocker)
    assert not mask.any()


def test_the_node_compares_the_face_with_the_photos() -> None:
    image, _ = astronaut()
    stranger, _ = portrait(5, size=256)
    same = FluxFaceSkinToneQA.execute(image[None], photo=image[None], min_similarity=0.6).result[1][0]
    assert same.passed
    assert same.measured["unlike_photo"] == pytest.approx(1.0, abs=0.01)
    other = FluxFaceSkinToneQA.execute(stranger[None], photo=image[None], min_similarity=0.6).result[1][0]
    assert [reason.code for reason in other.reasons] == ["unlike_photo"]
    with pytest.raises(UserInputError) as caught:
        FluxFaceSkinToneQA.execute(image[None], min_similarity=0.6)
    assert caught.value.code == "photo_missing"


def test_the_page_is_told_what_the_verdicts_say() -> None:
    good, face = portrait(5)
    bad, other = portrait(3, defect=SkinDefect.GREEN)
    empty = torch.full_like(good, torch.nan)
    batch = torch.stack((good, bad, empty))
    faces = face_set([[face], [other], []], batch)
    output = FluxFaceSkinToneQA.execute(batch, faces, photo=astronaut()[0][None])
    (shown,) = output.ui["flux_face_verdicts"]
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown
    inspections = inspect_images(batch, faces, Thresholds())
    for item, seen in zip(shown["items"], inspections, strict=True):
        verdict = seen.verdict.to_json()
        assert (item["passed"], item["score"]) == (verdict["passed"], verdict["score"])
        assert [(reason["code"], reason["quantity"]) for reason in item["reasons"]] == [
            (reason.code, reason.quantity) for reason in seen.verdict.reasons
        ]
        assert len(item["faces"]) == len(seen.measurements)
    skin = inspections[0].measurements[0]
    colours = shown["items"][0]["faces"][0]
    assert colours["face"] == "#" + bytes(round(255 * value) for value in skin.rgb).hex()
    assert colours["monk_step"] == skin.monk_step
    assert srgb_to_lab(torch.tensor(list(bytes.fromhex(colours["neck"][1:]))) / 255.0).tolist() == pytest.approx(
        skin.neck, abs=1.0
    )
    assert shown["photo"]["monk_step"] <= 5


def test_the_page_has_words_for_every_reason_and_quantity() -> None:
    """In each language, for what the code can say."""
    source = (ROOT / "nodes" / "skin" / "judge.py").read_text(encoding="utf-8")
    pairs = re.findall(r'_Check\(\s*"(\w+)", "(\w+)"', source)
    codes = {code for code, _ in pairs} | set(re.findall(r'Reason\("(\w+)"', source))
    codes |= {"too_many_faces", "too_few_faces", "neck_mismatch", "photo_mismatch"}
    quantities = {quantity for _, quantity in pairs} | {"difference", "faces", "score"}
    for path in sorted((ROOT / "locales").glob("*/main.json")):
        words = json.loads(path.read_text(encoding="utf-8"))["fluxFace"]["inspector"]
        assert set(words["reasons"]) == codes, path
        assert set(words["quantities"]) == quantities, path


def test_thumbnails_are_written_where_they_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    image, face = portrait(5, size=400)
    faces = face_set([[face]], image)
    (shown,) = FluxFaceSkinToneQA.execute(image[None], faces).ui["flux_face_verdicts"]
    assert shown["items"][0]["picture"] is None
    assert list(tmp_path.iterdir()) == []
    (shown,) = FluxFaceSkinToneQA.execute(image[None], faces, preview=True).ui["flux_face_verdicts"]
    (written,) = tmp_path.iterdir()
    assert shown["items"][0]["picture"] == {"filename": written.name, "subfolder": "", "type": "temp"}
    with Image.open(written) as thumbnail:
        assert thumbnail.size == (192, 192)
        assert thumbnail.info == {}


def test_the_node_refuses_nothing_but_wrong_inputs() -> None:
    with pytest.raises(UserInputError, match="photo: shape"):
        FluxFaceSkinToneQA.execute(astronaut()[0][None], photo=torch.zeros(1, 5, 5, 1))


def test_the_gate_names_who_failed_and_why() -> None:
    images = torch.zeros(2, 4, 4, 3)
    verdicts = (Verdict(True, 0.9), Verdict(False, 0.1, (Reason("cast", "cast: hue 250 degrees"),)))
    with pytest.raises(UserInputError, match=r"1 of 2 failed\nimage 2: failed, score 0.10: cast: hue 250 degrees"):
        FluxFaceSkinGate.execute(images, verdicts)
    assert FluxFaceSkinGate.execute(images, verdicts[:1] * 2).result[0] is images


def test_verdicts_are_json() -> None:
    image, face = portrait(5, defect=SkinDefect.BLUE)
    (found,) = inspect_images(image[None], face_set([[face]], image), Thresholds())
    document = json.loads(json.dumps(found.verdict.to_json(), allow_nan=False))
    assert document["passed"] is False
    assert document["reasons"][0].keys() == {"code", "message", "measured", "low", "high"}
    assert "failed" in describe([found.verdict])


def test_the_overlay_draws_on_a_copy() -> None:
    image, face = portrait(5)
    (found,) = inspect_images(image[None], face_set([[face]], image), Thresholds())
    before = image.clone()
    overlay = draw_overlay(image, found.faces, found.measurements, found.verdict)
    assert torch.equal(image, before)
    assert overlay.shape == image.shape
    assert (overlay - image).abs().mean() > 0.01


def test_the_overlay_of_bad_pixels_is_a_picture() -> None:
    image = torch.full((64, 64, 3), float("nan"))
    assert draw_overlay(image, [], [], Verdict(False, 0.0)).isfinite().all()
