"""The unified graph as a whole, on the starter models: prompt and photograph in, judged portraits out."""

from __future__ import annotations

import base64
import copy
import io
import json
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage
import torch
from PIL import Image

from flux_face.nodes.face.engines import Placement, classic_engine
from flux_face.nodes.face.swap import photo_identity
from flux_face.tests.comfy_server import Comfy, Graph
from flux_face.workflows.profiles import BUILT_IN_DIR, load_profiles

PHOTO_FILE = Path(skimage.__file__).parent / "data" / "astronaut.png"
PROMPTS = (
    "portrait of a smiling woman with brown hair, light skin, blue background",
    "portrait of a man with dark skin and black hair, sunset",
    "portrait of an old man with tan skin and white hair, green background",
    "portrait of a woman with pale skin and red hair, grey background",
    "portrait of a person",
)


def as_tensor(image: Image.Image) -> torch.Tensor:
    """``[H, W, 3]``, 0..1."""
    return torch.from_numpy(np.asarray(image.convert("RGB")).astype(np.float32) / 255)


def runsync(comfy: Comfy, **job: Any) -> dict[str, Any]:
    """The answer of a starter job on the job API."""
    photo = base64.b64encode(PHOTO_FILE.read_bytes()).decode()
    body = {"input": {"profile": "starter", "user_photo": photo, "include_generated": True, **job}}
    request = urllib.request.Request(
        f"{comfy.url}/flux-face/v1/runsync?wait=300000",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=310) as response:
        answer: dict[str, Any] = json.loads(response.read())
        return answer


def pictures(entries: list[dict[str, str]]) -> list[Image.Image]:
    return [Image.open(io.BytesIO(base64.b64decode(entry["data"]))).convert("RGB") for entry in entries]


@pytest.fixture(scope="module")
def output(comfy: Comfy) -> dict[str, Any]:
    """Two finished portraits."""
    answer = runsync(comfy, prompt=PROMPTS[0], batch_size=2, seed=5)
    assert answer["status"] == "COMPLETED", answer
    result: dict[str, Any] = answer["output"]
    return result


def test_the_portraits_pass_their_examination(output: dict[str, Any]) -> None:
    assert [verdict["passed"] for verdict in output["qa"]] == [True, True]


def test_the_face_is_nearer_to_the_photo_than_the_drawn_one(output: dict[str, Any]) -> None:
    engine = classic_engine()
    photo = as_tensor(Image.open(PHOTO_FILE))
    identity = photo_identity(engine, photo[None])
    for drawn, swapped in zip(pictures(output["generated"]), pictures(output["images"]), strict=True):
        likeness: list[float] = []
        for picture in (as_tensor(drawn), as_tensor(swapped)):
            faces = engine.detect(picture[None]).faces[0]
            assert len(faces) == 1
            likeness.extend(engine.compare(picture[None], [Placement(0, faces[0], identity)]))
        assert likeness[1] > likeness[0] + 0.2
        assert likeness[1] > 0.5


def test_nothing_outside_the_face_is_touched(output: dict[str, Any]) -> None:
    for drawn, swapped in zip(pictures(output["generated"]), pictures(output["images"]), strict=True):
        (face,) = classic_engine().detect(as_tensor(drawn)[None]).faces[0]
        changed = (np.asarray(drawn) != np.asarray(swapped)).any(axis=-1)
        assert changed.any()
        rows, columns = np.nonzero(changed)
        x0, y0, x1, y1 = face.box
        margin = 0.4 * face.width
        assert x0 - margin <= columns.min()
        assert columns.max() <= x1 + margin
        assert y0 - margin <= rows.min()
        assert rows.max() <= y1 + margin


def test_the_prompt_decides_the_skin_and_the_background(comfy: Comfy) -> None:
    """Mean colours of the drawn pictures, before any swap."""
    drawn = {}
    for prompt in ("woman with dark skin, blue background", "woman with pale skin, red background"):
        answer = runsync(comfy, prompt=f"portrait of a {prompt}", batch_size=2, seed=3, max_attempts=1)
        drawn[prompt] = np.stack([np.asarray(picture) for picture in pictures(answer["output"]["generated"])]) / 255
    dark, pale = drawn.values()
    cheeks = (slice(None), slice(120, 140), slice(110, 146))
    assert pale[cheeks].mean() > dark[cheeks].mean() + 0.25
    corner = (slice(None), slice(4, 40), slice(4, 40))
    blue, red = dark[corner].mean(axis=(0, 1, 2)), pale[corner].mean(axis=(0, 1, 2))
    assert blue[2] > blue[0] + 0.1
    assert red[0] > red[2] + 0.1


def test_abnormal_skin_is_refused_and_drawn_again(comfy: Comfy) -> None:
    """The photo's face takes the colour of the drawn skin, so a green portrait stays one."""
    answer = runsync(comfy, prompt="portrait of an alien", batch_size=4, seed=4, max_attempts=2)
    assert answer["status"] == "COMPLETED", answer
    retry = answer["output"]["retry"]
    passed_at_once = [len(item["attempts"]) == 1 for item in retry["items"]]
    assert passed_at_once.count(False) >= 2
    assert retry["images_sampled"] == 4 + passed_at_once.count(False)
    for verdict, item in zip(answer["output"]["qa"], retry["items"], strict=True):
        assert verdict["passed"] is item["passed"]
        assert [attempt["seed"] for attempt in item["attempts"]] == [4, 5][: len(item["attempts"])]
        assert item["attempts"][0]["passed"] is (len(item["attempts"]) == 1)
        if not verdict["passed"]:
            assert "cast" in {reason["code"] for reason in verdict["reasons"]}


def test_the_graph_runs_by_itself(comfy: Comfy) -> None:
    """As a person runs it in the web page: a photo from the input folder, pictures saved, none of the job API."""
    photo = Image.open(PHOTO_FILE)
    photo.save(comfy.base / "input" / "astronaut.png")
    graph = copy.deepcopy(dict(load_profiles([BUILT_IN_DIR])["starter"].graph))
    (load,) = (node for node in graph.values() if node["class_type"] == "FluxFaceLoadPhoto")
    load["inputs"]["photo"] = "astronaut.png"
    (save,) = (node_id for node_id, node in graph.items() if node["class_type"] == "SaveImage")
    (picture,) = comfy.images(comfy.run(graph, timeout=300), save)
    assert picture.shape == (256, 256, 3)


def test_of_fifty_portraits_forty_five_show_one_face(comfy: Comfy) -> None:
    """The starter models' bar, at the starter graph's own steps; nothing is swapped or drawn again."""
    profile = load_profiles([BUILT_IN_DIR])["starter"]
    found = 0
    for number, prompt in enumerate(PROMPTS):
        filled = profile.fill({"prompt": prompt, "batch_size": 10, "seed": 100 * number})
        graph = _drawing_only(filled)
        faces = [
            classic_engine().detect(torch.from_numpy(picture.astype(np.float32) / 255)[None]).faces[0]
            for picture in comfy.images(comfy.run(graph, timeout=300), "preview")
        ]
        found += sum(len(one) == 1 for one in faces)
    assert found >= 45


def _drawing_only(graph: Graph) -> Graph:
    """The graph up to its decoder, with a preview."""
    (decode,) = (node_id for node_id, node in graph.items() if node["class_type"] == "VAEDecode")
    kept: Graph = {}
    waiting = [decode]
    while waiting:
        node_id = waiting.pop()
        kept[node_id] = graph[node_id]
        waiting += [value[0] for value in graph[node_id]["inputs"].values() if isinstance(value, list)]
    kept["preview"] = {"class_type": "PreviewImage", "inputs": {"images": [decode, 0]}}
    return kept
