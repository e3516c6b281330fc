"""Choosing faces by every rule, alone and together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.identity import Identity
from flux_face.nodes.face.select import ORDERS, Order, SelectionRule, select_faces, standings
from flux_face.nodes.face.types import Face, FaceSet, FloatArray, Sex, numbers_of

RECOGNISER = "w600k_r50.onnx"


def direction(index: int) -> FloatArray:
    vector = np.zeros(512, dtype=np.float32)
    vector[index] = 3.0
    return vector


def face(
    x: float, y: float, size: float, score: float = 0.9, sex: Sex = "female", age: float = 30.0, person: int = 0
) -> Face:
    """A square face centred at x, y."""
    half = size / 2
    return Face(
        (x - half, y - half, x + half, y + half),
        score,
        np.zeros((5, 2), dtype=np.float32),
        embedding=direction(person),
        sex=sex,
        age=age,
    )


# Largest first, as engines give them: 1 lower right, 2 middle, 3 upper left, 4 left.
GROUP = FaceSet(
    (
        (
            face(320, 150, 80, score=0.7, sex="male", age=61, person=0),
            face(190, 90, 60, score=0.95, sex="female", age=25, person=1),
            face(90, 40, 40, score=0.8, sex="female", age=8, person=2),
            face(40, 120, 24, score=0.55, sex="male", age=34, person=3),
        ),
    ),
    height=200,
    width=400,
    engine="onnx (CPUExecutionProvider)",
    recogniser=RECOGNISER,
)
BARE = FaceSet(((Face((0, 0, 50, 50), 0.9, np.zeros((5, 2), dtype=np.float32)),),), 100, 100, "classic")


def chosen(**rule: Any) -> list[int]:
    return numbers_of(select_faces(GROUP, SelectionRule(**rule)).faces[0])


def test_without_a_rule_all_stay_in_their_order() -> None:
    assert chosen() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ("1,3-4", [1, 3, 4]),
        ("4, 2", [2, 4]),
        ("2-2", [2]),
        (" 1 - 3 ,", [1, 2, 3]),
        ("7", []),
        ("1,7-9", [1]),
        ("none", []),
        (" None ", []),
    ],
)
def test_numbers_are_the_overlays(numbers: str, expected: list[int]) -> None:
    assert chosen(numbers=numbers) == expected


@pytest.mark.parametrize("numbers", ["x", "0", "3-1", "1-", "-1", "1.5", "1 2", "9999999", "1,none", "no"])
def test_bad_numbers_are_named(numbers: str) -> None:
    with pytest.raises(UserInputError, match="numbers") as error:
        chosen(numbers=numbers)
    assert (error.value.code, error.value.field) == ("selection_rule", "numbers")


ORDERED: dict[Order, list[int]] = {
    "largest": [1, 2, 3, 4],
    "smallest": [4, 3, 2, 1],
    "left to right": [4, 3, 2, 1],
    "right to left": [1, 2, 3, 4],
    "top to bottom": [3, 2, 4, 1],
    "bottom to top": [1, 4, 2, 3],
    "nearest the centre": [2, 3, 1, 4],
    "best score": [2, 3, 1, 4],
    "youngest": [3, 2, 4, 1],
    "oldest": [1, 4, 2, 3],
}


@pytest.mark.parametrize("order", ORDERED)
def test_orders(order: Order) -> None:
    assert chosen(order=order) == ORDERED[order]
    assert chosen(order=order, at_most=2) == ORDERED[order][:2]


def test_every_order_is_tested() -> None:
    assert {*ORDERED, "most alike"} == set(ORDERS)


def test_most_alike_comes_first() -> None:
    vector = 0.9 * direction(2) + 0.5 * direction(3) + 0.1 * direction(0)
    rule: dict[str, Any] = {"people": (Identity(vector, RECOGNISER),), "order": "most alike"}
    assert chosen(**rule, min_similarity=-1.0) == [3, 4, 1, 2]
    assert chosen(**rule, min_similarity=0.4) == [3, 4]


def test_several_people_are_alternatives() -> None:
    people = (Identity(direction(1), RECOGNISER), Identity(direction(3), RECOGNISER))
    assert chosen(people=people) == [2, 4]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ({"sex": "male"}, [1, 4]),
        ({"min_age": 18.0}, [1, 2, 4]),
        ({"max_age": 34.0}, [2, 3, 4]),
        ({"min_age": 25.0, "max_age": 34.0}, [2, 4]),
        ({"min_size": 40.0}, [1, 2, 3]),
        ({"min_size": 40.5}, [1, 2]),
        ({"min_share": 0.3}, [1, 2]),
        ({"min_score": 0.75}, [2, 3]),
        ({"sex": "female", "order": "left to right", "at_most": 1}, [3]),
        ({"numbers": "1-2", "sex": "male"}, [1]),
    ],
)
def test_limits(rule: dict[str, Any], expected: list[int]) -> None:
    assert chosen(**rule) == expected


def test_the_rest_of_the_set_stays() -> None:
    result = select_faces(GROUP, SelectionRule(at_most=1))
    assert (result.height, result.width, result.engine, result.recogniser) == (200, 400, GROUP.engine, RECOGNISER)
    first = result.faces[0][0]
    assert (first.box, first.score, first.age) == ((280, 110, 360, 190), 0.7, 61)


def test_without_a_limit_a_box_with_swapped_sides_stays() -> None:
    turned = FaceSet(((Face((50, 0, 10, 40), 0.9, np.zeros((5, 2), dtype=np.float32)),),), 100, 100, "onnx")
    assert len(select_faces(turned, SelectionRule()).faces[0]) == 1
    assert select_faces(turned, SelectionRule(min_size=1.0)).faces == ((),)


def test_images_are_chosen_from_apart() -> None:
    two = FaceSet((GROUP.faces[0][2:], (), GROUP.faces[0]), 200, 400, "onnx")
    kept = select_faces(two, SelectionRule(order="left to right", at_most=1))
    assert [numbers_of(found) for found in kept.faces] == [[2], [], [4]]


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [("1,3", [[1], [], [1, 3]]), ("2;1;1,4", [[2], [], [1, 4]]), (" ; none; none", [[1, 2], [], []])],
)
def test_numbers_may_be_given_for_each_image(numbers: str, expected: list[list[int]]) -> None:
    three = FaceSet((GROUP.faces[0][2:], (), GROUP.faces[0]), 200, 400, "onnx")
    kept = select_faces(three, SelectionRule(numbers=numbers))
    assert [numbers_of(found) for found in kept.faces] == expected


def test_as_many_lists_as_images_are_needed() -> None:
    with pytest.raises(UserInputError, match="there are 2 lists for 1 images") as error:
        chosen(numbers="1;2")
    assert error.value.code == "selection_rule"


def test_chosen_faces_keep_their_numbers() -> None:
    right = select_faces(GROUP, SelectionRule(order="right to left", at_most=2))
    assert numbers_of(right.faces[0]) == [1, 2]
    upper = select_faces(right, SelectionRule(order="top to bottom"))
    assert numbers_of(upper.faces[0]) == [2, 1]
    assert numbers_of(select_faces(upper, SelectionRule(numbers="2")).faces[0]) == [2]


def test_every_face_is_told_how_it_does() -> None:
    people = (Identity(direction(3), RECOGNISER), Identity(direction(1) + direction(2), RECOGNISER))
    rule = SelectionRule(numbers="1-3", people=people, min_similarity=0.5, at_most=1)
    first, middle, upper, left = standings(GROUP, select_faces(GROUP, rule), rule)[0]
    # 1 is like nobody, 3 one too many; 4 would be chosen if its number were there.
    assert (first.fits, middle.fits, upper.fits, left.fits) == (False, True, False, True)
    assert (middle.person, left.person) == (1, 0)
    assert middle.similarity == pytest.approx(0.7071, abs=1e-4)
    assert left.similarity == pytest.approx(1.0, abs=1e-4)
    (alone,) = standings(BARE, BARE, SelectionRule())[0]
    assert (alone.fits, alone.person, alone.similarity) == (True, None, None)


@pytest.mark.parametrize(
    ("rule", "code", "field"),
    [
        ({"sex": "male"}, "attributes_missing", "sex"),
        ({"min_age": 1.0}, "attributes_missing", "min_age"),
        ({"max_age": 50.0}, "attributes_missing", "max_age"),
        ({"order": "oldest"}, "attributes_missing", "order"),
        ({"people": (Identity(direction(0), RECOGNISER),)}, "embedding_missing", "faces"),
        ({"order": "most alike"}, "selection_rule", "order"),
        ({"min_age": 40.0, "max_age": 30.0}, "selection_rule", "max_age"),
    ],
)
def test_what_is_not_known_cannot_be_asked(rule: dict[str, Any], code: str, field: str) -> None:
    with pytest.raises(UserInputError) as error:
        select_faces(BARE, SelectionRule(**rule))
    assert (error.value.code, error.value.field) == (code, field)


@pytest.mark.parametrize("person", [Identity(), Identity(direction(0), "glintr100.onnx")])
def test_a_person_needs_an_embedding_of_the_same_network(person: Identity) -> None:
    with pytest.raises(UserInputError, match=f"no embedding of {RECOGNISER}") as error:
        chosen(people=(person,))
    assert error.value.code == "identity_incomplete"


def test_an_image_without_faces_asks_for_nothing() -> None:
    empty = FaceSet(((),), 100, 100, "classic")
    rule = SelectionRule(sex="male", people=(Identity(),), order="oldest")
    assert select_faces(empty, rule).faces == ((),)
