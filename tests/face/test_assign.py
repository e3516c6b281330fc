"""Who goes on which face, written by hand."""

from __future__ import annotations

import pytest

from flux_face.nodes.errors import UserInputError
from flux_face.nodes.face.assign import pairs_by_hand, pairs_of, parse_by_hand
from flux_face.nodes.face.identity import Identity

from .samples import face_at

PEOPLE = (Identity(name="Anna"), Identity(name="Ben"), Identity(name="anna b"), Identity())
ROW = tuple(face_at(100 * place, 50, 80) for place in range(1, 4))


def parsed(text: str, count: int = 1) -> list[dict[int, int]] | None:
    by_hand = parse_by_hand(text, PEOPLE, count)
    return None if by_hand is None else [dict(own) for own in by_hand]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1:2", {1: 1}),
        ("1:Anna, 2:Ben", {1: 0, 2: 1}),
        (" 3 : ANNA B , 1 : 4 ,", {3: 2, 1: 3}),
        ("1:1, 2:1", {1: 0, 2: 0}),
        ("none", {}),
        ("None", {}),
    ],
)
def test_faces_are_named_with_people(text: str, expected: dict[int, int]) -> None:
    assert parsed(text) == [expected]
    assert parsed(text, 2) == [expected, expected]


def test_an_empty_text_names_nothing() -> None:
    assert parsed("") is None
    assert parsed("  ") is None


def test_every_image_may_have_its_list() -> None:
    assert parsed("1:1; none; 2:Ben", 3) == [{1: 0}, {}, {2: 1}]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("1", "'1' is no face with a person"),
        ("1:", "'1:' is no face with a person"),
        (":1", "':1' is no face with a person"),
        ("Anna:1", "'Anna:1' is no face with a person"),
        ("0:1", "'0:1' is no face with a person"),
        ("1:1, none", "'none' is no face with a person"),
        ("1:2, 01:1", "face 1 is named twice"),
        ("1:5", "there is no person 5. These people are connected: 1 Anna, 2 Ben, 3 anna b, 4"),
        ("1:0", "there is no person 0"),
        ("1:Carl", "nobody is called Carl. These people are connected: 1 Anna, 2 Ben"),
        ("1:1;", "there are 2 lists for 1 images"),
        (",", "an image has an empty list"),
    ],
)
def test_what_cannot_be_meant_is_named(text: str, problem: str) -> None:
    with pytest.raises(UserInputError) as error:
        parsed(text)
    assert (error.value.code, error.value.field) == ("by_hand", "by_hand")
    assert problem in str(error.value)


def test_a_name_that_two_people_have_is_refused() -> None:
    with pytest.raises(UserInputError, match="2 people are called ben"):
        parse_by_hand("1:ben", [Identity(name="Ben"), Identity(name="BEN")], 1)


def test_pairs_are_in_the_order_of_the_faces() -> None:
    pairs = pairs_by_hand([ROW, ROW[:1]], PEOPLE, [{3: 0, 1: 1}, {2: 0}])
    assert [(pair.placement.image, pair.number, pair.identity) for pair in pairs] == [(0, 1, 2), (0, 3, 1)]
    assert [pair.placement.face for pair in pairs] == [ROW[0], ROW[2]]
    assert [pair.placement.identity.name for pair in pairs] == ["Ben", "Anna"]


def test_the_order_gives_everybody_one_face() -> None:
    pairs = pairs_of([ROW], PEOPLE[:2], "order")
    assert [(pair.number, pair.identity) for pair in pairs] == [(1, 1), (2, 2)]
