"""What the web page is told of faces and people."""

from __future__ import annotations

import json

import pytest
import torch

from flux_face.nodes.face.identity import Identity
from flux_face.nodes.face.picker import PORTRAIT, portrait, selection_view, swap_view
from flux_face.nodes.face.select import SelectionRule, select_faces, standings
from flux_face.nodes.face.swap_report import ImageReport, Milliseconds

from .samples import as_image, face_at, photo
from .test_select import GROUP, RECOGNISER, direction


def test_all_faces_are_shown_with_what_the_rule_makes_of_them() -> None:
    people = (Identity(direction(1), RECOGNISER, name="Anna"),)
    rule = SelectionRule(numbers="2", people=people, min_similarity=-1.0, sex="female")
    chosen = select_faces(GROUP, rule)
    (view,) = selection_view(GROUP, chosen, standings(GROUP, chosen, rule), people)
    assert (view["width"], view["height"]) == (400, 200)
    assert [(face["number"], face["kept"], face["fits"]) for face in view["faces"]] == [
        (1, False, False),
        (2, True, True),
        (3, False, True),
        (4, False, False),
    ]
    assert view["faces"][1] == {
        "number": 2,
        "box": [160.0, 60.0, 220.0, 120.0],
        "score": 0.95,
        "sex": "female",
        "age": 25,
        "kept": True,
        "fits": True,
        "similarity": 1.0,
        "person": "Anna",
    }
    assert json.loads(json.dumps(view)) == view


def test_a_swap_shows_who_went_where() -> None:
    chosen = select_faces(GROUP, SelectionRule(numbers="2,4"))
    report = ImageReport(2, (4,), (2,), (0.1,), (0.71234,), Milliseconds())
    (view,) = swap_view(chosen, [report])
    assert [(face["number"], face["person"], face["similarity"]) for face in view["faces"]] == [
        (2, None, None),
        (4, 2, 0.7123),
    ]


@pytest.mark.parametrize("place", [(515, 330), (2, 2)])
def test_a_portrait_is_the_face_and_no_more(place: tuple[int, int]) -> None:
    face = face_at(*place, 150)
    small = portrait(Identity(photo=as_image(photo()), face=face))
    assert small is not None
    assert small.shape == (PORTRAIT, PORTRAIT, 3)
    x, y = max(place[0] - 98, 0), max(place[1] - 98, 0)
    around = as_image(photo())[y : y + 195, x : x + 195]
    assert torch.allclose(small.mean((0, 1)), around.mean((0, 1)), atol=0.02)


def test_without_a_photo_there_is_no_portrait() -> None:
    assert portrait(Identity(direction(1), RECOGNISER)) is None
