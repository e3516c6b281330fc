"""Swap Face, Swap Options and Face Mask in the real ComfyUI."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from flux_face.devtools.pack import ROOT
from flux_face.tests.comfy_server import Comfy, Graph

from . import samples
from .node_graphs import (
    EMPTY,
    GROUP,
    IDENTITY,
    OPTIONS,
    PHOTO,
    PORTRAIT,
    SELECT,
    SWAP,
    alike_before,
    image,
    node,
    people_graph,
    preview,
    refusal,
    report_of,
    swap_graph,
    text_of,
)


@pytest.mark.usefixtures("pictures")
def test_a_swap_with_the_classic_engine(comfy: Comfy) -> None:
    report = report_of(comfy.run(swap_graph(PORTRAIT, PHOTO)))
    assert report["engine"] == "classic"
    assert report["images"][0]["swapped"] == 1
    assert report["images"][0]["similarity"][0] > 0.7


@pytest.mark.usefixtures("pictures")
def test_a_photo_without_a_face_says_what_to_do(comfy: Comfy) -> None:
    assert refusal(comfy, swap_graph(PORTRAIT, EMPTY)) == (
        "FluxFaceSwapFace: [photo_no_face] photo: no face was found in the photo. Use a photo in which one face is "
        "seen from the front, well lit and at least a tenth of the picture wide"
    )


@pytest.mark.usefixtures("pictures")
def test_the_apis_graph_runs_as_it_is(comfy: Comfy) -> None:
    graph: Graph = json.loads((ROOT / "workflows" / "api" / "faceswap.json").read_text(encoding="utf-8"))
    graph["photo"]["inputs"]["photo"] = PHOTO
    graph["target"]["inputs"]["photo"] = PORTRAIT
    # The small models that other tests put there would find hundreds of faces.
    graph["engine"]["inputs"]["engine"] = "classic"
    graph["report"] = preview("swap", 3)
    entry = comfy.run(graph)
    report = report_of(entry)
    assert {"engine", "provider", "images"} <= set(report)
    assert {"faces", "swapped", "similarity_before", "similarity", "ms"} <= set(report["images"][0])
    # Without preview in the graph nothing of the swap is written.
    assert "swap" not in entry["outputs"]


@pytest.mark.usefixtures("pictures")
def test_the_preview_shows_every_image_before_and_after(comfy: Comfy) -> None:
    graph = swap_graph(PORTRAIT, PHOTO, preview=True)
    graph["before"] = node("PreviewImage", images=["images", 0])
    entry = comfy.run(graph)
    before, after = comfy.images(entry, "swap")
    assert np.array_equal(before, comfy.images(entry, "before")[0])
    assert np.array_equal(after, comfy.images(entry, "show")[0])
    assert not np.array_equal(before, after)


@pytest.mark.usefixtures("pictures")
def test_an_identity_swaps_as_its_photo_does(comfy: Comfy) -> None:
    graph = swap_graph(PORTRAIT, PHOTO)
    graph["identity"] = node("FluxFaceFaceIdentity", photos=["photo", 0], **IDENTITY)
    graph["again"] = node("FluxFaceSwapFace", images=["images", 0], identity=["identity", 0], **SWAP)
    graph["show_again"] = node("PreviewImage", images=["again", 0])
    entry = comfy.run(graph)
    assert np.array_equal(comfy.images(entry, "show")[0], comfy.images(entry, "show_again")[0])


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize(
    ("both", "problem"), [(True, "both photo and identity are"), (False, "neither photo nor identity is")]
)
def test_exactly_one_of_photo_and_identity_is_needed(comfy: Comfy, both: bool, problem: str) -> None:
    graph = swap_graph(PORTRAIT, PHOTO)
    graph["identity"] = node("FluxFaceFaceIdentity", photos=["photo", 0], **IDENTITY)
    if both:
        graph["swap"]["inputs"]["identity"] = ["identity", 0]
    else:
        del graph["swap"]["inputs"]["photo"]
    assert refusal(comfy, graph) == (
        f"FluxFaceSwapFace: [photo_or_identity] photo: {problem} connected. Connect exactly one of them"
    )


@pytest.mark.usefixtures("pictures")
def test_chosen_faces_are_replaced_and_no_others(comfy: Comfy) -> None:
    graph = swap_graph(GROUP, PHOTO, faces=["select", 0])
    graph["detect"] = node("FluxFaceDetectFaces", images=["images", 0])
    graph["select"] = node(
        "FluxFaceSelectFaces",
        faces=["detect", 0],
        images=["images", 0],
        **{**SELECT, "order": "left to right", "at_most": 2},
    )
    graph["chosen"] = preview("select", 4)
    graph["count"] = preview("select", 3)
    graph["mask"] = node("MaskToImage", mask=["select", 1])
    graph["show_mask"] = node("PreviewImage", images=["mask", 0])
    entry = comfy.run(graph)
    report = report_of(entry)["images"][0]
    assert report["swapped"] == 2
    chosen = report_of(entry, "chosen")["images"][0]
    assert chosen["faces"] >= 4
    assert len(chosen["chosen"]) == 2
    assert text_of(entry, "count") == "2"
    changed = np.flatnonzero((comfy.images(entry, "show")[0] != samples.photo()).any(axis=(0, 2)))
    masked = np.flatnonzero(comfy.images(entry, "show_mask")[0].any(axis=(0, 2)))
    width = samples.photo().shape[1]
    assert masked.min() < changed.mean() < masked.max() < width / 2
    assert changed.max() < width / 2
    # What can be clicked on, on the node.
    (view,) = entry["outputs"]["select"]["flux_face_faces"]
    assert [face["number"] for face in view["faces"]] == list(range(1, chosen["faces"] + 1))
    assert [face["number"] for face in view["faces"] if face["kept"]] == sorted(chosen["chosen"])
    assert np.array_equal(comfy.picture(view["image"]), samples.photo())
    # Numbers are those of all faces of the image, wherever they are told.
    assert sorted(report["numbers"]) == sorted(chosen["chosen"])


@pytest.mark.usefixtures("pictures")
def test_people_go_where_they_are_sent_by_hand(comfy: Comfy) -> None:
    graph = swap_graph(GROUP, PHOTO, preview=True, by_hand="3:Ben, 1:anna")
    graph["other"] = image(PORTRAIT)
    for key, source, name in (("first", "photo", "Anna"), ("second", "other", "Ben")):
        graph[key] = node("FluxFaceFaceIdentity", photos=[source, 0], **IDENTITY, name=name)
    graph["people"] = node("FluxFaceCombineIdentities", identity_1=["first", 0], identity_2=["second", 0])
    graph["swap"]["inputs"]["identity"] = ["people", 0]
    del graph["swap"]["inputs"]["photo"]
    entry = comfy.run(graph)
    report = report_of(entry)["images"][0]
    assert (report["numbers"], report["identities"]) == ([1, 3], [1, 2])
    shown = entry["outputs"]["swap"]
    (view,) = shown["flux_face_faces"]
    assert {face["number"]: face["person"] for face in view["faces"] if face["person"]} == {1: 1, 3: 2}
    assert [person["name"] for person in shown["flux_face_people"]] == ["Anna", "Ben"]
    assert comfy.picture(shown["flux_face_people"][1]["image"]).shape == (64, 64, 3)
    # Nothing but these two faces is another picture than before.
    changed = (comfy.images(entry, "show")[0] != samples.photo()).any(axis=2)
    for face in view["faces"]:
        x0, y0, x1, y1 = (round(value) for value in face["box"])
        assert changed[y0:y1, x0:x1].any() == (face["number"] in (1, 3))

    graph["swap"]["inputs"]["by_hand"] = "1:Carl"
    assert refusal(comfy, graph) == (
        "FluxFaceSwapFace: [by_hand] by_hand: nobody is called Carl. These people are connected: 1 Anna, 2 Ben"
    )


@pytest.mark.usefixtures("pictures")
def test_faces_of_other_images_are_refused(comfy: Comfy) -> None:
    graph = swap_graph(PORTRAIT, PHOTO, faces=["detect", 0])
    graph["detect"] = node("FluxFaceDetectFaces", images=["photo", 0])
    assert "[faces_mismatch] faces: they are of 1 images of 512x512" in refusal(comfy, graph)


@pytest.mark.usefixtures("pictures", "face_models")
def test_people_go_where_they_are_most_alike(comfy: Comfy) -> None:
    for first, second in (("one", "two"), ("two", "one")):
        (a,), (b,) = alike_before(comfy, people_graph("similarity", first, second))
        assert a == pytest.approx(1.0, abs=1e-3)
        assert b == pytest.approx(1.0, abs=1e-3)
    (a,), (b,) = alike_before(comfy, people_graph("first", "one", "two"))
    assert a == pytest.approx(1.0, abs=1e-3)
    assert b < 0.99


@pytest.mark.usefixtures("pictures", "face_models")
def test_a_face_like_nobody_stays(comfy: Comfy) -> None:
    graph = people_graph("similarity", "one", "one", lowest_similarity=0.995)
    graph["show"] = node("PreviewImage", images=["swap", 0])
    graph["before"] = node("PreviewImage", images=["batch", 0])
    entry = comfy.run(graph)
    assert [item["swapped"] for item in report_of(entry)["images"]] == [1, 0]
    assert text_of(entry, "count") == "2"
    shown, before = comfy.images(entry, "show"), comfy.images(entry, "before")
    assert not np.array_equal(shown[0], before[0])
    assert np.array_equal(shown[1], before[1])


@pytest.mark.usefixtures("pictures")
def test_a_face_mask_covers_the_face(comfy: Comfy) -> None:
    def areas(**options: Any) -> float:
        graph = {
            "images": image(PHOTO),
            "detect": node("FluxFaceDetectFaces", images=["images", 0]),
            "options": node("FluxFaceSwapOptions", **{**OPTIONS, **options}),
            "mask": node("FluxFaceFaceMask", images=["images", 0], faces=["detect", 0], options=["options", 0]),
            "picture": node("MaskToImage", mask=["mask", 0]),
            "show": node("PreviewImage", images=["picture", 0]),
            "boxes": preview("detect", 4),
        }
        entry = comfy.run(graph)
        mask = comfy.images(entry, "show")[0][..., 0] / 255.0
        ((box,),) = report_of(entry, "boxes")
        x, y = round(box["x"] + box["width"] / 2), round(box["y"] + box["height"] / 2)
        assert mask[y, x] == 1.0
        assert mask[:, 0].max() == 0.0
        return float(mask.mean())

    box, ellipse = areas(), areas(box=False, ellipse=True)
    assert ellipse < 0.7 * box
    assert areas(ellipse=True, outline=True) < ellipse
    assert areas(padding_top=0.3) < 0.9 * box


@pytest.mark.usefixtures("pictures")
def test_regions_need_a_parser(comfy: Comfy) -> None:
    graph = swap_graph(PORTRAIT, PHOTO, options=["options", 0])
    graph["options"] = node("FluxFaceSwapOptions", **{**OPTIONS, "regions": "skin, nose"})
    assert "FluxFaceSwapOptions: [mask_parser_missing] regions:" in refusal(comfy, graph)


@pytest.mark.usefixtures("pictures", "face_models")
def test_options_reach_the_swap(comfy: Comfy) -> None:
    graph = people_graph("first", "one", "two")
    graph["options"] = node("FluxFaceSwapOptions", **{**OPTIONS, "padding_top": 0.5, "pixel_boost": 2})
    graph["narrow"] = node("FluxFaceSwapFace", **{**graph["swap"]["inputs"], "options": ["options", 0]})
    for name, source in (("wide_mask", "swap"), ("narrow_mask", "narrow")):
        graph[f"{name}_picture"] = node("MaskToImage", mask=[source, 2])
        graph[name] = node("PreviewImage", images=[f"{name}_picture", 0])
    entry = comfy.run(graph)
    wide, narrow = comfy.images(entry, "wide_mask")[0].mean(), comfy.images(entry, "narrow_mask")[0].mean()
    assert 0.0 < narrow < 0.7 * wide


@pytest.mark.usefixtures("pictures", "face_models")
@pytest.mark.parametrize("runtime", ["onnxruntime", "torch"])
def test_masks_restorer_and_pixel_boost_work_together(comfy: Comfy, runtime: str) -> None:
    """All networks of Swap Options at once: each leaves its mark, and what they leave out stays as it was."""
    graph = people_graph("first", "one", "two", options=["options", 0])
    graph["engine"]["inputs"]["runtime"] = runtime
    graph["options"] = node("FluxFaceSwapOptions", **{**OPTIONS, "runtime": runtime})
    graph["before"] = node("PreviewImage", images=["batch", 0])
    graph["show"] = node("PreviewImage", images=["swap", 0])

    def swapped(**options: Any) -> np.ndarray:
        graph["options"]["inputs"].update(options)
        entry = comfy.run(graph)
        assert [item["swapped"] for item in report_of(entry)["images"]] == [1, 1]
        before, after = (np.stack(comfy.images(entry, name)).astype(int) for name in ("before", "show"))
        difference: np.ndarray = after - before
        return difference

    plain = swapped()
    boosted = swapped(pixel_boost=2)
    restored = swapped(restorer="insightface/gfpgan_1.4.onnx", restore_strength=1.0)
    occluded = swapped(occluder="insightface/xseg_1.onnx")
    everything = swapped(parser="insightface/bisenet_resnet_34.onnx", regions="skin, right_eye")
    steps = [plain, boosted, restored, occluded, everything]
    assert [np.array_equal(*pair) for pair in pairwise(steps)] == [False] * 4
    # Masks only ever take away.
    for less, more in ((everything, occluded), (occluded, restored)):
        assert np.abs(less).sum() < np.abs(more).sum()
